"""Full trainings of networks that find objects, each from its recipe to its figures on the test images."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.transforms.v2.functional import to_pil_image

from experiments.detection.evaluation import cost, evaluate, results_file
from experiments.detection.pictures import drawn
from experiments.detection.recipe import ImageRecipe
from experiments.detection.training import DetectorTraining
from experiments.full_training import train_in_full
from experiments.job_folder import refuse_not_finite, save_weights, write_result
from experiments.promotion import JobOptions, Progress, Result, counted
from experiments.timing import device_name
from proxy_tasks.data import DetectionDataset, held_apart, open_dataset
from search_spaces import Architecture, InputError
from search_spaces.files import write_whole

__all__ = ["Networks", "opened", "train_detector"]

PICTURES = "pictures"


@dataclass(frozen=True)
class Networks:
    """What differs between families.

    Args:
        build: ``build(architecture, recipe, weights, classes)``: a network that takes and gives torchvision's lists of
            dicts, labels counting from 0, with ``weights`` for its backbone.
        macs: the multiply-accumulates of a network on an image (1, 3, H, W).
        masks: whether it learns and finds masks.
    """

    build: Callable[[Architecture, Any, str, int], nn.Module]
    macs: Callable[[Any, Tensor], int]
    masks: bool = False


def train_detector(
    networks: Networks,
    folder: Path,
    architecture: Architecture,
    recipe: ImageRecipe,
    options: JobOptions,
    resume: bool,
    say: Progress,
) -> dict[str, Any]:
    """Trains a network and measures it on the test images; everything ends up in ``folder``.

    Raises:
        InputError: bad data or weights, or the folder holds another job.
        Diverged: the loss, or the trained weights, are not finite.
    """
    recipe = recipe.around()
    train, test = (opened(options, subset, networks.masks) for subset in ("train", "test"))
    if train.classes != test.classes:
        raise InputError(f"{options.data}: the train set's classes are {train.classes}, the test set's {test.classes}")
    detector = _new(networks, architecture, recipe, options, len(train.classes))
    learned, held_out = (train, None) if not recipe.validate_every else held_apart(train, options.seed)
    device = torch.device(options.device)

    def finish(job: DetectorTraining, steps: int) -> Result:
        return _finish(networks, folder, job.trained, recipe, test, options, say, steps)

    def validated(job: DetectorTraining) -> float:
        assert held_out is not None
        job.trained.transform.min_size = (recipe.min_size,)
        figures, _, _ = evaluate(job.trained, held_out, device, counted(say, "validating"), networks.masks)
        return figures["ap"]

    return train_in_full(
        folder,
        architecture,
        recipe,
        options,
        resume,
        say,
        data=train.fingerprint,
        network=detector,
        begin=partial(DetectorTraining, detector, learned, recipe, options.seed, options.iterations, options.loaders),
        finish=finish,
        validated=validated if held_out else None,
    )


def opened(options: JobOptions, subset: str, masks: bool = False) -> DetectionDataset:
    """The images of a training; raises `InputError` where the data are bad."""
    return open_dataset(options.data, subset, skip_bad_boxes=options.skip_bad_boxes, masks=masks)


def _new(
    networks: Networks, architecture: Architecture, recipe: ImageRecipe, options: JobOptions, classes: int
) -> nn.Module:
    """A network with initial weights drawn from the seed, its backbone's as the options say, on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        network = networks.build(architecture, recipe, options.backbone_weights, classes)
    return network.to(options.device).to(memory_format=torch.channels_last)


def _finish(
    networks: Networks,
    folder: Path,
    detector: Any,
    recipe: ImageRecipe,
    test: DetectionDataset,
    options: JobOptions,
    say: Progress,
    steps: int,
) -> dict[str, Any]:
    """Weights, detections, pictures and figures of a trained detector."""
    device = torch.device(options.device)
    refuse_not_finite(detector)
    detector.transform.min_size = (recipe.min_size,)  # that of the last batch's is another
    save_weights(detector, folder / "weights.safetensors")
    metrics, found, image_ids = evaluate(detector, test, device, counted(say, "measuring"), networks.masks)
    write_whole(folder / "detections.json", json.dumps(results_file(found, image_ids, test.category_ids)))
    (folder / PICTURES).mkdir(exist_ok=True)
    wanted = np.linspace(0, len(test) - 1, min(options.pictures, len(test))).round().astype(int)
    for index in sorted({int(index) for index in wanted}):
        picture = to_pil_image(drawn(test[index][0], found[index], test.classes))
        picture.save(folder / PICTURES / f"{image_ids[index]}.png")
    figures = {"metrics": metrics, "cost": cost(detector, networks.macs, test, device), "device": device_name(device)}
    return write_result(folder, {"steps": steps, "pictures": options.pictures, "classes": test.classes, **figures})
