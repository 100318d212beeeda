"""Training: a decoder on cached features (fast decoder adaptation), and, once a search, the backbone on images."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from proxy_tasks.crops import Crops
from proxy_tasks.fcos_loss import FCOSLossSums, fcos_loss_sums
from proxy_tasks.features import FeatureCache, normalise
from proxy_tasks.settings import FCOSSettings
from proxy_tasks.targets import Locations, assign, pad_boxes
from proxy_tasks.task import Diverged

__all__ = [
    "check_losses",
    "finetune_backbone",
    "flips",
    "mean_loss",
    "minibatches",
    "train_decoder",
    "train_one_cycle",
]

WEIGHT_DECAY = 1e-4  # of FCOS's recipe
GRADIENT_NORM = 10.0  # clips the first steps from scratch, which otherwise now and then diverge


def minibatches(indices: np.ndarray, size: int, count: int, seed: int) -> Iterator[np.ndarray]:
    """``count`` batches of ``size`` indices: one shuffled pass over them after the other, cut into batches."""
    rng, size = np.random.default_rng(seed), min(size, len(indices))
    passes = -(-count * size // len(indices))
    order = np.concatenate([rng.permutation(indices) for _ in range(passes)])
    yield from order[: count * size].reshape(count, size)


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


def check_losses(losses: list[Tensor], steps: int) -> None:
    """Raises `Diverged` where one of the losses of the first steps, of ``steps`` in all, is not finite."""
    finite = torch.isfinite(torch.stack(losses))
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise Diverged(f"the training loss is {float(losses[step])} at iteration {step + 1} of {steps}")


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


def flips(seed: int) -> Callable[[int], Tensor]:
    """Draws which of n images to mirror, bool (n,), each with probability one half."""
    rng = np.random.default_rng([seed, 1])
    return lambda count: torch.from_numpy(rng.random(count) < 0.5)


def train_one_cycle(
    model: nn.Module,
    indices: np.ndarray,
    batch_size: int,
    steps: int,
    learning_rate: float,
    seed: int,
    loss_of: Callable[[np.ndarray], Tensor],
    progress: Callable[[int, int], None],
) -> None:
    """Trains ``model`` in place with AdamW under the one-cycle schedule.

    Args:
        model: left in training mode.
        indices: of what is learned.
        batch_size: of them in a step.
        steps: may be 0.
        learning_rate: the peak.
        seed: of the batches.
        loss_of: the loss of a batch of indices.
        progress: called with the number of steps done and their total.

    Raises:
        Diverged: the loss is not finite.
    """
    if steps == 0:
        return
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=steps)
    model.train()
    for step, batch in enumerate(minibatches(indices, batch_size, steps, seed), start=1):
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, GRADIENT_NORM)
        optimizer.step()
        schedule.step()
        if step % 20 == 0 or step == steps:
            if not bool(torch.isfinite(loss)):
                raise Diverged(f"the fine-tuning's loss is {float(loss.detach())} by step {step} of {steps}")
            progress(step, steps)


def _flip(images: Tensor, boxes: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Mirrors the chosen images (B, 3, H, W) and their boxes (B, M, 4) left to right."""
    width = images.shape[-1]
    mirrored = torch.stack([width - boxes[..., 2], boxes[..., 1], width - boxes[..., 0], boxes[..., 3]], dim=-1)
    return (
        torch.where(chosen[:, None, None, None], images.flip(-1), images),
        torch.where(chosen[:, None, None], mirrored, boxes),
    )
