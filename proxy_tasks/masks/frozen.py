"""The network that mask heads are searched in: trained once around the plain head, then frozen.

Detector, neck and semantic branch are those of every candidate; only the mask branch is replaced.
"""

import numpy as np
import torch
from torch import Tensor

from proxy_tasks.cache import cache_key
from proxy_tasks.crops import CropRows, Crops, MirroredBeside
from proxy_tasks.masks.network import MaskNetwork, build_mask_network
from proxy_tasks.masks.proposals import Proposals
from proxy_tasks.masks.settings import MaskSettings
from proxy_tasks.overrides import pretraining
from proxy_tasks.rows import Site, on_device
from proxy_tasks.task import TaskOptions
from proxy_tasks.training import Schedule, train_one_cycle
from proxy_tasks.weights import state_hash, trained_once
from search_spaces import Architecture, SearchSpace
from search_spaces.masks.choices import plain

__all__ = ["PROPOSALS", "frozen_network", "identity", "mask_network"]

# a crop shows a part of an image, and has fewer objects: its proposals, and the RoIs that a box stage learns from
PROPOSALS, SAMPLED = 300, 64
LEARNED = ("boxes", "labels", "masks", "iscrowd")


def mask_network(
    architecture: Architecture, settings: MaskSettings, classes: int, weights: str = "none", frozen: bool | None = None
) -> MaskNetwork:
    """The whole network around ``architecture`` at a proxy task's sizes; see `build_mask_network`.

    Raises:
        InputError: bad weights.
    """
    crop, width = settings.crop, settings.width
    network = build_mask_network(
        architecture, settings.backbone, weights, frozen, classes, width, crop, crop, anchors=settings.anchors
    )
    assert isinstance(network, MaskNetwork)
    assert isinstance(network.rpn, Proposals)
    network.rpn.keep(PROPOSALS)
    network.roi_heads.sampler.batch_size_per_image = SAMPLED
    return network


def frozen_network(
    space: SearchSpace, crops: Crops, meta_train: np.ndarray, settings: MaskSettings, options: TaskOptions, site: Site
) -> MaskNetwork:
    """The network around the plain head of ``space``, trained on meta-train and frozen, on the CPU.

    Args:
        space: whose heads are searched.
        crops: what it is trained on, with masks.
        meta_train: numbers of those that it may see.
        settings: its sizes, and those named ``pretrain_*``.
        options: seed and initial weights.
        site: where its weights are kept, and where it is trained.

    Raises:
        InputError: the initial weights are bad.
        Diverged: the loss is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        kept = options.kept_file("network")  # which needs no initial weights any more
        weights = "none" if kept else options.backbone_weights
        network = mask_network(plain(space), settings, len(crops.classes), weights, options.backbone_weights != "none")
    sizes = ("backbone", "width", "anchors", "crop")
    key = cache_key(
        crops=crops.key,
        space=space.name,
        initial=state_hash(network),
        split=options.seed,
        **{name: getattr(settings, name) for name in sizes},
        **pretraining(settings),
    )

    def train() -> None:
        with on_device(network, site.device):
            _pretrain(network, crops, meta_train, settings, options.seed, site)

    trained_once(options.cache_root, "networks", key, network, train, kept)
    return network.eval().requires_grad_(False)


def identity(network: MaskNetwork, settings: MaskSettings) -> str:
    """Stands for all that a frozen network computes: its weights, and what no weight shows."""
    return cache_key(weights=state_hash(network), anchors=settings.anchors, proposals=PROPOSALS)


def _pretrain(
    network: MaskNetwork, crops: Crops, meta_train: np.ndarray, settings: MaskSettings, seed: int, site: Site
) -> None:
    """Trains all of it on crops and their mirror images."""
    rows = MirroredBeside(crops, meta_train)
    learned = np.concatenate([meta_train, rows.mirrored])
    schedule = Schedule(
        settings.pretrain_batch_size, settings.pretrain_iterations, settings.pretrain_learning_rate, seed
    )
    with torch.random.fork_rng(devices=[]):  # anchors and RoIs are drawn
        torch.manual_seed(seed)
        train_one_cycle(
            network,
            learned,
            schedule,
            lambda batch: torch.stack(list(_losses(network, rows, batch, site.device).values())).sum(),
            site.counted("training the network around the heads"),
        )


def _losses(network: MaskNetwork, rows: CropRows, batch: np.ndarray, device: torch.device) -> dict[str, Tensor]:
    images = list(rows.images(batch).to(device).float() / 255)
    targets = [rows.target(int(index)) for index in batch]
    found: dict[str, Tensor] = network(images, [{name: one[name].to(device) for name in LEARNED} for one in targets])
    return found
