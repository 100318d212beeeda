"""The static network that cells are searched around: read from a file, or trained once on the cached frames."""

from functools import partial

import numpy as np
import torch
from torch import Tensor

from proxy_tasks.backbones import state_hash
from proxy_tasks.cache import cache_key
from proxy_tasks.images import normalise
from proxy_tasks.task import Progress, TaskOptions
from proxy_tasks.training import Schedule, flips, train_one_cycle
from proxy_tasks.video.frames import Frames
from proxy_tasks.video.loss import cross_entropy
from proxy_tasks.video.network import StaticSegmenter, build_segmenter, upsample
from proxy_tasks.video.settings import VideoSettings
from proxy_tasks.weights import load_weights, trained_once
from search_spaces import Architecture, InputError

__all__ = ["static_network"]

PRETRAIN = ("pretrain_iterations", "pretrain_batch_size", "pretrain_learning_rate")


def static_network(
    frames: Frames, learned: np.ndarray, classes: int, settings: VideoSettings, options: TaskOptions, progress: Progress
) -> StaticSegmenter:
    """arch2 with its encoder, frozen, in evaluation mode, on the device.

    Args:
        frames: what it is trained on, where ``options.static`` names no trained weights.
        learned: the annotated frames of meta-train.
        classes: of the labels.
        settings: backbone, width, and those named ``pretrain_*``.
        options: device, seed, weights.
        progress: see `Progress`.

    Raises:
        InputError: weights that cannot be read or do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        weights = "none" if options.static else options.backbone_weights
        architecture = Architecture.of("arch2", ())
        network = build_segmenter(architecture, settings.backbone, weights, classes, settings.width)
    assert isinstance(network, StaticSegmenter)
    network = network.to(options.device).to(memory_format=torch.channels_last)
    if options.static:
        try:
            load_weights(network, options.static)
        except InputError as error:
            sizes = f"backbone {settings.backbone}, width {settings.width}, {classes} classes"
            raise InputError(f"{error} ({sizes}); give the --preset or sizes that it was trained with") from error
    else:
        key = cache_key(
            frames=frames.key,
            initial=state_hash(network),
            split=options.seed,
            **{name: getattr(settings, name) for name in PRETRAIN},
        )
        trained_once(
            options.cache_root,
            "static",
            key,
            network,
            lambda: _train(network, frames, learned, settings, options, progress),
        )
    return network.eval().requires_grad_(False)


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
