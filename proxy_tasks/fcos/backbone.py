"""The frozen backbone: fine-tuned once as a standard FCOS on meta-train, then read from the cache."""

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.backbones import make_backbone
from proxy_tasks.cache import cache_key
from proxy_tasks.crops import Crops, mirrored_boxes
from proxy_tasks.fcos.decoders import DecoderSizes
from proxy_tasks.fcos.loss import fcos_loss_sums
from proxy_tasks.fcos.settings import FCOSSettings
from proxy_tasks.fcos.targets import Locations, assign, pad_boxes
from proxy_tasks.images import detector_input
from proxy_tasks.overrides import pretraining
from proxy_tasks.rows import Site, on_device
from proxy_tasks.task import TaskOptions
from proxy_tasks.training import Schedule, flips, train_one_cycle
from proxy_tasks.weights import state_hash, trained_once
from search_spaces import Architecture

__all__ = ["finetune", "finetuned_backbone"]


def finetuned_backbone(
    crops: Crops, meta_train: np.ndarray, settings: FCOSSettings, options: TaskOptions, site: Site
) -> nn.Module:
    """The backbone of these settings, frozen, in evaluation mode, on the CPU.

    Args:
        crops: what it is fine-tuned on.
        meta_train: numbers of those that it may see.
        settings: backbone, width, and those named ``pretrain_*``.
        options: seed and initial weights.
        site: where its weights are kept, and where it is trained.

    Raises:
        InputError: the initial weights are bad.
        Diverged: the loss is not finite.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        kept = options.kept_file("backbone")  # which needs no initial weights, installed or downloaded, any more
        frozen = options.backbone_weights != "none"
        body = make_backbone(settings.backbone, str(kept or options.backbone_weights), frozen)
    key = cache_key(
        crops=crops.key,
        backbone=settings.backbone,
        initial=state_hash(body),
        split=options.seed,
        width=settings.width,
        interest=settings.interest,
        **pretraining(settings),
    )
    schedule = Schedule(
        settings.pretrain_batch_size, settings.pretrain_iterations, settings.pretrain_learning_rate, options.seed
    )
    sizes = DecoderSizes(settings.backbone, len(crops.classes), settings.width, settings.crop)

    def train() -> None:
        decoder = sizes.build(Architecture.of("fpn_fcos", ()), options.seed)
        with on_device(nn.Sequential(body, decoder), site.device) as detector:
            finetune(detector, crops, meta_train, schedule, settings.locations(site.device), site)

    trained_once(options.cache_root, "backbones", key, body, train, kept)
    return body.to(memory_format=torch.channels_last).eval().requires_grad_(False)


def finetune(
    detector: nn.Module, crops: Crops, indices: np.ndarray, schedule: Schedule, locations: Locations, site: Site
) -> None:
    """Trains a whole detector on the crops, with horizontal flips."""
    mirrored, device = flips(schedule.seed), site.device

    def loss(batch: np.ndarray) -> Tensor:
        boxes, labels = pad_boxes([crops.target(int(i)) for i in batch], device)
        images, boxes = _flip(crops.images(batch).to(device), boxes, mirrored(len(batch)).to(device))
        targets = assign(boxes, labels, locations)
        return fcos_loss_sums(detector(detector_input(images)), targets, locations.sizes).total()

    train_one_cycle(detector, indices, schedule, loss, site.counted("fine-tuning the backbone"))


def _flip(images: Tensor, boxes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrors the chosen images (B, 3, H, W) and their boxes (B, M, 4) left to right."""
    mirrored = mirrored_boxes(boxes, images.shape[-1])
    return (
        torch.where(chosen[:, None, None, None], images.flip(-1), images),
        torch.where(chosen[:, None, None], mirrored, boxes),
    )
