"""What was trained in full, found again by its folder, its weights or its run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.families import Family, family_of
from experiments.job_folder import read_job, read_result
from experiments.predicting import Predictor, Trained
from nas.run.reading import Run
from nas.searching.plan import find_device
from search_spaces import SPACES, Architecture, InputError

__all__ = ["Training", "find", "load"]


@dataclass(frozen=True)
class Training:
    """A finished full training.

    Args:
        folder: where it is.
        architecture: that of the network.
        trained: how it was trained.
    """

    folder: Path
    architecture: Architecture
    trained: Trained

    @property
    def family(self) -> Family:
        """The network's."""
        return family_of(self.architecture.space)

    def predictor(self, device: str) -> Predictor:
        """The network on ``auto``, ``cpu`` or ``cuda``; raises `InputError` where its files are damaged."""
        make = self.family.function("predictor")
        if make is None:
            raise InputError(f"the family {self.family.name!r} has no predictor")
        weights = self.folder / "weights.safetensors"
        predictor: Predictor = make(weights, self.architecture, self.trained, torch.device(find_device(device)))
        return predictor


def load(what: str | Path, device: str = "auto") -> Predictor:
    """The network that a full training ended with, ready for images.

    Args:
        what: the training's folder, the weights in it, or a run, of which the best that was trained in full is taken.
        device: ``auto``, ``cpu`` or ``cuda``.

    Returns:
        see `experiments.predicting.Predictor`: ``predict(image)`` of a uint8 (3, H, W) image.

    Raises:
        InputError: there is no such training, it is not finished, or its files are damaged.
    """
    return find(what).predictor(device)


def find(what: str | Path) -> Training:
    """What `load` loads, and raises as far as it can be said without the weights."""
    folder = _folder(Path(what))
    job, result = read_job(folder / "job.json"), read_result(folder)
    if result is None:
        raise InputError(f"the training in {folder} is not finished; go on with it by nas-promote … --resume")
    if not isinstance(result.get("classes"), list):
        raise InputError(
            f"{folder / 'result.json'} does not name the classes; an earlier version wrote it, train again"
        )
    trained = Trained(job["recipe"], result["classes"], [tuple(shade) for shade in result.get("palette", ())])
    return Training(folder, _architecture(job, folder), trained)


def _folder(path: Path) -> Path:
    """The folder of the training that ``path`` stands for."""
    if path.is_file():
        path = path.parent
    if (path / "job.json").is_file():
        return path
    if not (path / "run.yaml").is_file():
        raise InputError(f"{path} is neither a full training's folder, nor weights in one, nor a run")
    run = Run(path)
    contents = run.contents()
    done = {row.key: row for row in contents.promotions if row.status == "done"}
    if not done:
        raise InputError(
            f"of the run {path} nothing is trained in full yet; nas-promote {path} --recipe NAME does that"
        )
    best = run.best_with_trials(None, contents)
    key = next((architecture.key for architecture, _ in best if architecture.key in done), next(iter(done)))
    place = Path(done[key].place)
    return place if place.is_dir() else path / "promoted" / place.name  # the run may have been moved since


def _architecture(job: dict[str, Any], folder: Path) -> Architecture:
    try:
        architecture: Architecture = SPACES.get(job["space"]).from_named(job["choices"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'job.json'} names no architecture") from error
    return architecture
