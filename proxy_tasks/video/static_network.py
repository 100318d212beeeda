"""The static network that cells are searched around: read from a file, or trained once on the cached frames."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from proxy_tasks.cache import cache_key
from proxy_tasks.images import normalise
from proxy_tasks.task import Progress, TaskOptions
from proxy_tasks.training import Schedule, flips, train_one_cycle
from proxy_tasks.video.frames import Frames
from proxy_tasks.video.loss import cross_entropy
from proxy_tasks.video.network import StaticSegmenter, build_segmenter, upsample
from proxy_tasks.video.settings import VideoSettings
from proxy_tasks.weights import load_weights, state_hash, trained_once
from search_spaces import Architecture, InputError

__all__ = ["StaticNetwork", "static_network"]

PRETRAIN = ("pretrain_iterations", "pretrain_batch_size", "pretrain_learning_rate")


@dataclass(frozen=True)
class StaticNetwork:
    """The static network, and all that is needed to build it again.

    Args:
        network: arch2 with its encoder, trained and frozen, in evaluation mode.
        hash: hex digits of its weights.
        backbone: the name of its encoder, see `proxy_tasks.backbones.make_backbone`.
        width: the channels of its decoder.
        classes: the number of classes.
    """

    network: StaticSegmenter
    hash: str
    backbone: str
    width: int
    classes: int


def static_network(
    frames: Frames, learned: np.ndarray, classes: int, settings: VideoSettings, options: TaskOptions, progress: Progress
) -> StaticNetwork:
    """The static network on the device, from the file that ``options.static`` names, or trained once and then cached.

    Args:
        frames: the frames of meta-train, which the network is trained on where there are no trained weights.
        learned: the numbers of those that are annotated.
        classes: the number of classes.
        settings: the backbone, the width, and the settings named ``pretrain_*``.
        options: the device, the seed and the weights.
        progress: see `Progress`.

    Raises:
        InputError: weights that cannot be read or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        kept = options.kept_file("static")
        weights = "none" if options.static or kept else options.backbone_weights
        architecture = Architecture.of("arch2", ())
        network = build_segmenter(architecture, settings.backbone, weights, classes, settings.width)
    assert isinstance(network, StaticSegmenter)
    network = network.to(options.device).to(memory_format=torch.channels_last)
    if options.static:
        if not Path(options.static).is_file():
            raise InputError(f"there is no weights file {options.static} of the trained static network")
        try:
            load_weights(network, options.static)
        except InputError as error:
            sizes = f"backbone {settings.backbone}, width {settings.width}, {classes} classes"
            raise InputError(f"{error} ({sizes}); give the --preset or sizes that it was trained with") from error
    else:
        key = cache_key(
            frames=frames.key,  # so the weights of another split, which may have seen meta-val, are never taken
            initial=state_hash(network),
            seed=options.seed,
            **{name: getattr(settings, name) for name in PRETRAIN},
        )
        trained_once(
            options.cache_root,
            "static",
            key,
            network,
            lambda: _train(network, frames, learned, settings, options, progress),
            kept,
        )
    network.eval().requires_grad_(False)
    return StaticNetwork(network, state_hash(network), settings.backbone, settings.width, classes)


def _train(
    network: StaticSegmenter,
    frames: Frames,
    learned: np.ndarray,
    settings: VideoSettings,
    options: TaskOptions,
    progress: Progress,
) -> None:
    """Cross-entropy at the frames' size, with horizontal flips; AdamW under the one-cycle schedule."""
    mirrored = flips(options.seed)

    def loss(batch: np.ndarray) -> Tensor:
        chosen = mirrored(len(batch)).to(options.device)[:, None, None]
        images, labels = frames.images(batch).to(options.device), frames.labels(batch).to(options.device)
        images = torch.where(chosen[:, None], images.flip(-1), images)
        labels = torch.where(chosen, labels.flip(-1), labels)
        height, width = labels.shape[-2:]
        return cross_entropy(upsample(network(normalise(images)), (height, width)), labels)

    schedule = Schedule(
        settings.pretrain_batch_size, settings.pretrain_iterations, settings.pretrain_learning_rate, options.seed
    )
    train_one_cycle(network, learned, schedule, loss, partial(progress, "training the static network"))
