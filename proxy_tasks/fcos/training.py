"""Training of FCOS: decoders on cached features (fast decoder adaptation); once a search, the backbone on images."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from proxy_tasks.fcos.crops import Crops
from proxy_tasks.fcos.features import FeatureCache
from proxy_tasks.fcos.loss import FCOSLossSums, fcos_loss_sums
from proxy_tasks.fcos.settings import FCOSSettings
from proxy_tasks.fcos.targets import Locations, assign, pad_boxes
from proxy_tasks.images import normalise
from proxy_tasks.task import Diverged
from proxy_tasks.training import check_losses, flips, minibatches, train_one_cycle

__all__ = ["finetune_backbone", "mean_loss", "train_decoder"]


def train_decoder(
    model: nn.Module,
    cache: FeatureCache,
    indices: np.ndarray,
    locations: Locations,
    settings: FCOSSettings,
    seed: int,
) -> nn.Module:
    """Trains a decoder on cached features with Adam and gives its Polyak average (thesis 7.4.1).

    The average runs over weights and batch-norm statistics alike and lives beside the trained weights, so evaluating it
    does not disturb training.

    Args:
        model: maps the cache's maps to FCOS head outputs; trained in place.
        cache: features and targets.
        indices: the crops of meta-train.
        locations: of the crops.
        settings: batch size, iterations, learning rate, decay.
        seed: of the batches' order.

    Raises:
        Diverged: the loss is not finite.
    """
    model.train()
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.polyak_decay), use_buffers=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=settings.learning_rate, foreach=True)
    losses = []
    for batch in minibatches(indices, settings.batch_size, settings.iterations, seed):
        loss = fcos_loss_sums(model(cache.features(batch)), cache.targets(batch), locations.sizes).total()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        losses.append(loss.detach())  # looked at once, after the last step, so that no step waits for its value
    check_losses(losses, len(losses))
    averaged: nn.Module = average.module
    return averaged.eval()


@torch.inference_mode()
def mean_loss(
    model: nn.Module, cache: FeatureCache, indices: np.ndarray, locations: Locations, batch_size: int
) -> dict[str, float]:
    """The three losses and their sum ``loss`` over all of ``indices``, as if they were one batch.

    Raises:
        Diverged: a loss is not finite.
    """
    model.eval()
    sums: FCOSLossSums | None = None
    for features, targets in cache.batches(indices, batch_size):
        part = fcos_loss_sums(model(features), targets, locations.sizes)
        sums = part if sums is None else sums + part
    assert sums is not None
    values = {"loss": float(sums.total())} | {f"loss_{name}": float(term) for name, term in sums.terms().items()}
    if not np.isfinite(list(values.values())).all():
        raise Diverged(f"the loss on meta-val is {values['loss']}")
    return values


def finetune_backbone(
    detector: nn.Module,
    crops: Crops,
    indices: np.ndarray,
    locations: Locations,
    settings: FCOSSettings,
    seed: int,
    device: torch.device,
    progress: Callable[[int, int], None],
) -> None:
    """Trains a whole detector on the crops, with horizontal flips; AdamW under the one-cycle schedule.

    Args:
        detector: maps normalised images to FCOS head outputs; trained in place and left on ``device``.
        crops: images and boxes.
        indices: the crops of meta-train.
        locations: of the crops, on ``device``.
        settings: those named ``pretrain_*``.
        seed: of the batches and flips.
        device: where to train.
        progress: called with the number of steps done and their total.

    Raises:
        Diverged: the loss is not finite.
    """
    mirrored = flips(seed)

    def loss(batch: np.ndarray) -> Tensor:
        images, targets = crops.images(batch).to(device), [crops.target(int(i)) for i in batch]
        boxes, labels = pad_boxes(targets, device)
        images, boxes = _flip(images, boxes, mirrored(len(batch)).to(device))
        sums = fcos_loss_sums(detector(normalise(images)), assign(boxes, labels, locations), locations.sizes)
        return sums.total()

    train_one_cycle(
        detector,
        indices,
        settings.pretrain_batch_size,
        settings.pretrain_iterations,
        settings.pretrain_learning_rate,
        seed,
        loss,
        progress,
    )


def _flip(images: Tensor, boxes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrors the chosen images (B, 3, H, W) and their boxes (B, M, 4) left to right."""
    width = images.shape[-1]
    mirrored = torch.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], dim=-1)
    return (
        torch.where(chosen[:, None, None, None], images.flip(-1), images),
        torch.where(chosen[:, None, None], mirrored, boxes),
    )
