"""Full trainings of segmentation networks, each from its recipe to its figures on the test frames."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from experiments.full_training import train_in_full
from experiments.job_folder import dependencies, finished, open_job, refuse_not_finite, save_weights, write_result
from experiments.promotion import JobOptions, Progress, Result, counted
from experiments.timing import device_name
from experiments.video.cell_training import VideoTraining
from experiments.video.evaluation import Network, cost, evaluate
from experiments.video.pictures import colour, legend, strip, write_png
from experiments.video.recipe import Recipe, StaticRecipe, VideoRecipe
from experiments.video.static_training import StaticTraining
from proxy_tasks import ranks
from proxy_tasks.data.video import open_video
from proxy_tasks.data.video.base import VideoDataset
from proxy_tasks.video.network import StaticSegmenter, VideoSegmenter, build_segmenter
from proxy_tasks.video.split import split
from proxy_tasks.weights import load_weights
from search_spaces import Architecture, InputError

__all__ = ["draw_strips", "measure_baseline", "opened", "static_file", "train_static", "train_video"]

PICTURES = "pictures"
ARCH2 = Architecture.of("arch2", ())


def train_static(
    folder: Path, architecture: Architecture, recipe: StaticRecipe, options: JobOptions, resume: bool, say: Progress
) -> dict[str, Any]:
    """Trains a static network and measures it on the test frames; everything ends up in ``folder``.

    Raises:
        InputError: bad data or weights, or the folder holds another job.
        Diverged: the loss, or the trained weights, are not finite.
    """
    train, test = (open_video(options.data, subset, sequences=False) for subset in ("train", "test"))
    learned, held_out = _held_apart(train, recipe, options)
    network = _new(architecture, recipe, options, len(train.classes), auxiliary=True)
    assert isinstance(network, StaticSegmenter), "arch2"
    if options.static:
        load_weights(network, options.static, optional="decoder.auxiliary.")

    def finish(job: StaticTraining, steps: int) -> Result:
        job.trained.decoder.auxiliary = None  # it was for the training alone
        return _finish(folder, job.trained, recipe.scale, 0, test, options, say, steps)

    begin = partial(StaticTraining, network, learned, recipe, options.seed, options.iterations, options.loaders)
    return train_in_full(
        folder,
        architecture,
        recipe,
        options,
        resume,
        say,
        data=train.fingerprint,
        network=network,
        begin=begin,
        finish=finish,
        validated=_validated(held_out, recipe, options, say),
    )


def train_video(
    folder: Path, architecture: Architecture, recipe: VideoRecipe, options: JobOptions, resume: bool, say: Progress
) -> dict[str, Any]:
    """Trains a cell and the static network ``options.static`` end to end and measures them on the test frames.

    Args:
        folder: where everything ends up.
        architecture: the cell's architecture, from a video space.
        recipe: how.
        options: see `JobOptions`.
        resume: whether the folder may be there already.
        say: see `Progress`.

    Raises:
        InputError: bad data or weights, no static network, or the folder holds another job.
        Diverged: the loss, or the trained weights, are not finite.
    """
    recipe = recipe.around()
    train, test = (opened(options.data, subset, recipe) for subset in ("train", "test"))
    learned, held_out = _held_apart(train, recipe, options)
    network = _new(architecture, recipe, options, len(train.classes))
    assert isinstance(network, VideoSegmenter), architecture.space.name
    load_weights(network.static, static_file(options))

    def finish(job: VideoTraining, steps: int) -> Result:
        return _finish(folder, job.trained, recipe.scale, recipe.keyframe_interval, test, options, say, steps)

    begin = partial(VideoTraining, network, learned, recipe, options.seed, options.iterations, options.loaders)
    return train_in_full(
        folder,
        architecture,
        recipe,
        options,
        resume,
        say,
        data=train.fingerprint,
        network=network,
        begin=begin,
        finish=finish,
        validated=_validated(held_out, recipe, options, say),
    )


def measure_baseline(
    folder: Path, recipe: VideoRecipe, options: JobOptions, resume: bool, say: Progress
) -> dict[str, Any]:
    """Measures the static network ``options.static`` as it is, frame by frame; raises as `train_video`."""
    if not ranks.is_first():  # nothing is trained
        return {}
    recipe = recipe.around()
    test = opened(options.data, "test", recipe)
    network = _new(ARCH2, recipe, options, len(test.classes))
    load_weights(network, static_file(options))
    open_job(folder, resume, ARCH2, recipe, **dependencies(test.fingerprint, options, network))
    return finished(folder, options) or _finish(folder, network, recipe.scale, 0, test, options, say, steps=0)


def _held_apart(train: VideoDataset, recipe: Recipe, options: JobOptions) -> tuple[VideoDataset, VideoDataset | None]:
    """The frames that are learned, and those held out where the recipe validates."""
    if not recipe.validate_every:
        return train, None
    learned, held_out = split(train, options.seed)
    if not len(held_out):
        raise InputError(f"{train.root}: the train set is too small to hold out a tenth for 'validate_every'")
    return learned, held_out


def _validated(
    held_out: VideoDataset | None, recipe: Recipe, options: JobOptions, say: Progress
) -> Callable[[StaticTraining | VideoTraining], float] | None:
    """What measures mIoU on the frames that are held out."""
    if held_out is None:
        return None
    device, interval = torch.device(options.device), getattr(recipe, "keyframe_interval", 0)

    def measure(job: StaticTraining | VideoTraining) -> float:
        figures, _ = evaluate(
            job.trained,
            held_out,
            recipe.scale,
            interval,
            device,
            (),
            counted(say, "validating"),
        )
        return figures["miou"]

    return measure


def opened(path: str | None, subset: str, recipe: VideoRecipe) -> VideoDataset:
    """The ``"train"`` or ``"test"`` frames, sequences as long as the recipe says; raises `InputError` on bad data."""
    return open_video(path, subset, sequence_length=recipe.sequence_length)


def static_file(options: JobOptions) -> str:
    """The weights of the static network that cells are trained around; raises `InputError` where none are given."""
    if options.static is None:
        raise InputError(
            "a video recipe starts from a trained static network; give --static weights.safetensors of"
            " nas-promote arch2, or a search run that has one"
        )
    return options.static


def _new(
    architecture: Architecture,
    recipe: Recipe,
    options: JobOptions,
    classes: int,
    auxiliary: bool = False,
) -> Network:
    """A network with initial weights drawn from the seed, its encoder's as the options say, on the device."""
    assert recipe.backbone is not None, "see VideoRecipe.around"
    assert recipe.width is not None, "see VideoRecipe.around"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        weights = "none" if options.static or not auxiliary else options.backbone_weights
        network = build_segmenter(architecture, recipe.backbone, weights, classes, recipe.width, auxiliary)
    return network.to(options.device).to(memory_format=torch.channels_last)


def _finish(
    folder: Path,
    network: Network,
    scale: float,
    keyframe_interval: int,
    test: VideoDataset,
    options: JobOptions,
    say: Progress,
    steps: int,
) -> dict[str, Any]:
    """Weights, pictures and figures of a trained network."""
    device = torch.device(options.device)
    refuse_not_finite(network)
    save_weights(network, folder / "weights.safetensors")
    (folder / PICTURES).mkdir(exist_ok=True)
    annotated = np.flatnonzero(test.annotated)  # a strip shows the truth too
    wanted = np.linspace(0, len(annotated) - 1, min(options.pictures, len(annotated))).round().astype(int)
    keep = {int(index) for index in annotated[wanted]}
    metrics, kept = evaluate(
        network,
        test,
        scale,
        keyframe_interval,
        device,
        keep,
        counted(say, "measuring"),
    )
    for index, labels in kept.items():
        write_png(colour(labels, test.palette), folder / PICTURES / f"{test.name(index)}.png")
    figures = {"metrics": metrics, "cost": cost(network, test, scale, device), "device": device_name(device)}
    told = {"classes": test.classes, "palette": test.palette}
    return write_result(folder, {"steps": steps, "pictures": options.pictures, **told, **figures})


def draw_strips(folder: Path, data: str | None, jobs: Mapping[str, Path]) -> None:
    """Writes frame, truth and each finished job's prediction side by side, for every frame that all jobs have drawn.

    Args:
        folder: where to.
        data: as in `JobOptions`.
        jobs: their folders by their titles.
    """
    test = open_video(data, "test", sequences=False)
    drawn = [{path.stem for path in (place / PICTURES).glob("*.png")} for place in jobs.values()]
    names = set.intersection(*drawn)
    folder.mkdir(exist_ok=True)
    for index in (i for i in range(len(test)) if test.name(i) in names):
        images = [Image.fromarray(test.image(index).permute(1, 2, 0).numpy()), colour(test.labels(index), test.palette)]
        for place in jobs.values():
            with Image.open(place / PICTURES / f"{test.name(index)}.png") as picture:
                images.append(picture.convert("RGB"))
        write_png(strip(images, ["frame", "truth", *jobs]), folder / f"{test.name(index)}.png")
    write_png(legend(test.classes, test.palette), folder / "legend.png")
