"""What was trained in full, found again by its folder, its weights or its run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from experiments.families import Family, family_of
from experiments.job_folder import read_job, read_result, recipe_of
from experiments.predicting import Predictor, Trained
from nas.run.reading import Run
from nas.run.trainings import WEIGHTS, trained_weights
from nas.searching.plan import find_device
from search_spaces import SPACES, Architecture, InputError

__all__ = ["Training", "find", "load"]


@dataclass(frozen=True)
class Training:
    """A finished full training.

    Args:
        weights: those in its folder that are meant.
        architecture: that of the network.
        trained: how it was trained.
    """

    weights: Path
    architecture: Architecture
    trained: Trained

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.weights.parent

    @property
    def family(self) -> Family:
        """The network's."""
        return family_of(self.architecture.space)

    def predictor(self, device: str) -> Predictor:
        """The network on ``auto``, ``cpu`` or ``cuda``; raises `InputError` where its files are damaged."""
        make = self.family.function("predictor")
        if make is None:
            raise InputError(f"the family {self.family.name!r} has no predictor")
        predictor: Predictor = make(self.weights, self.architecture, self.trained, torch.device(find_device(device)))
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
    weights = _weights(Path(what))
    folder = weights.parent
    job, result = read_job(folder / "job.json"), read_result(folder)
    if result is None:
        raise InputError(f"the training in {folder} is not finished; go on with it by nas-promote … --resume")
    classes, palette = result.get("classes"), result.get("palette", [])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise InputError(f"{folder / 'result.json'} does not name the classes by a list, got {classes!r}; train again")
    trained = Trained(recipe_of(job, folder / "job.json"), classes, [tuple(shade) for shade in palette])
    return Training(weights, _architecture(job, folder), trained)


def _weights(path: Path) -> Path:
    """The weights that ``path`` stands for."""
    if path.is_file() and path.suffix == ".safetensors" and (path.parent / "job.json").is_file():
        return path
    if (path / "job.json").is_file():
        return path / WEIGHTS
    if not (path / "run.yaml").is_file():
        raise InputError(f"{path} is neither a full training's folder, nor weights in one, nor a run")
    run = Run(path)
    contents = run.contents()
    done = {row.key for row in contents.promotions if row.status == "done"}
    best = (architecture.key for architecture, _ in run.best_with_trials(None, contents))
    key = next((key for key in (*best, *sorted(done)) if key in done), None)
    if key is None or (found := trained_weights(path, key, contents.promotions)) is None:
        raise InputError(
            f"of the run {path} nothing is trained in full yet; nas-promote {path} --recipe NAME does that"
        )
    return found


def _architecture(job: dict[str, Any], folder: Path) -> Architecture:
    try:
        architecture: Architecture = SPACES.get(job["space"]).from_named(job["choices"])
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / 'job.json'} names no architecture") from error
    return architecture
