"""Full trainings of every family on a device that is none, measured and drawn at the end.

A program of its own, since such a device has to be there before a process's first backward pass.
"""

import dataclasses
import tempfile
from pathlib import Path

import numpy as np
from pretended import pretended_device
from test_experiments_detector_training import SMALL as SMALL_DETECTOR
from test_experiments_mask_training import SMALL as SMALL_MASKS
from trees import write_coco
from video_parts import static_recipe, video_recipe

import search_spaces
from experiments import published
from experiments.detection import evaluation as detection_evaluation
from experiments.detection.jobs import train_detector
from experiments.fcos.networks import NETWORKS as DETECTORS
from experiments.masks.networks import NETWORKS as MASKS
from experiments.promotion import JobOptions
from experiments.video import evaluation as video_evaluation
from experiments.video.jobs import ARCH2, train_static, train_video


def quiet(*_):
    """Progress that nobody sees."""


def trained(train, folder, options):
    result = train(folder, options=options, resume=False, say=quiet)
    assert result["steps"] == options.iterations
    assert list((folder / "pictures").iterdir())


def main():
    for module in (detection_evaluation, video_evaluation):
        module.median_milliseconds = lambda run, *_, **__: 0.0 * (run() is None)  # how fast it is says nothing
    with tempfile.TemporaryDirectory() as root, pretended_device() as device:
        images = str(write_coco(Path(root, "images"), n=4, size=(80, 64)))
        options = JobOptions(device=device, iterations=1, backbone_weights="none", pictures=1)
        for networks, name, recipe in ((DETECTORS, "nas_fcos", SMALL_DETECTOR), (MASKS, "htca_d", SMALL_MASKS)):

            def detector(folder, **given):
                return train_detector(networks, folder, published.load(name), recipe, **given)  # noqa: B023

            trained(detector, Path(root, name), dataclasses.replace(options, data=images))

        trained(lambda folder, **given: train_static(folder, ARCH2, static_recipe(), **given), Path(root, "s"), options)
        cell = search_spaces.get("video_cell").sample(np.random.default_rng(0))
        options = dataclasses.replace(options, static=str(Path(root, "s", "weights.safetensors")))
        recipe = video_recipe(cell_epochs=0)
        trained(lambda folder, **given: train_video(folder, cell, recipe, **given), Path(root, "cell"), options)
    print("all trained")


if __name__ == "__main__":
    main()
