"""What every short training of a proxy task shares: its batches, two ways to train, and losses over a whole set."""

import functools
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.stepping import PolyakAverage, TrainingStep, losses_of_steps, on_device_of
from proxy_tasks.task import Counted, Diverged, Interim, Score, TaskOptions

__all__ = [
    "LossSums",
    "Schedule",
    "check_losses",
    "flips",
    "in_parts",
    "mean_loss",
    "minibatches",
    "scores_along",
    "train_averaged",
    "train_one_cycle",
]

Model = TypeVar("Model", bound=nn.Module)
SPLIT = 32  # images that torchvision's deformable convolution takes at once, at most
WEIGHT_DECAY = 1e-4  # of FCOS's recipe
GRADIENT_NORM = 10.0  # clips the first steps from scratch, which otherwise now and then diverge


def minibatches(indices: np.ndarray, size: int, count: int, seed: int) -> np.ndarray:
    """``count`` batches of ``size`` indices, one a row: shuffled passes over them, cut into batches."""
    rng, size = np.random.default_rng(seed), min(size, len(indices))
    passes = -(-count * size // len(indices))
    order = np.concatenate([indices[:0], *(rng.permutation(indices) for _ in range(passes))])
    return order[: count * size].reshape(count, size)


def in_parts(indices: np.ndarray, size: int) -> list[np.ndarray]:
    """All of ``indices`` in order, at most ``size`` at a time; no part where there are none.

    A part has fewer than 32 rows or a multiple of 32: torchvision's deformable convolution takes as many images of a
    batch at once as its largest divisor up to 32, so that of a prime number it takes one after the other.
    """
    step = size // SPLIT * SPLIT or size
    cuts = {*range(step, len(indices), step), len(indices) - len(indices) % min(step, SPLIT)}
    return [part for part in np.split(indices, sorted(cuts)) if len(part)]


def check_losses(losses: list[Tensor], steps: int) -> None:
    """Raises `Diverged` where one of the losses of the first steps, of ``steps`` in all, is not finite."""
    finite = torch.isfinite(torch.stack(losses))
    if not bool(finite.all()):
        step = int((~finite).nonzero()[0])
        raise Diverged(f"the training loss is {float(losses[step])} at iteration {step + 1} of {steps}")


def flips(seed: int) -> Callable[[int], Tensor]:
    """Draws which of n images to mirror, bool (n,), each with probability one half."""
    rng = np.random.default_rng([seed, 1])
    return lambda count: torch.from_numpy(rng.random(count) < 0.5)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a model is trained.

    Args:
        batch_size: at most all that is learned.
        steps: may be 0.
        learning_rate: constant, or the peak of the one-cycle schedule.
        seed: draws the order in which the samples come in batches.
    """

    batch_size: int
    steps: int
    learning_rate: float
    seed: int

    def batches(self, indices: np.ndarray) -> np.ndarray:
        """The batch of every step, one a row."""
        return minibatches(indices, self.batch_size, self.steps, self.seed)


def train_one_cycle(
    model: nn.Module,
    indices: np.ndarray,
    schedule: Schedule,
    loss_of: Callable[[np.ndarray], Tensor],
    progress: Counted,
) -> None:
    """Trains ``model`` in place with AdamW under the one-cycle schedule.

    Args:
        model: left in training mode.
        indices: the indices of the samples that are learned.
        schedule: its rate is the peak.
        loss_of: the loss of a batch of indices.
        progress: called with the number of steps done and their total.

    Raises:
        Diverged: the loss is not finite.
    """
    steps = schedule.steps
    if steps == 0:
        return
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=schedule.learning_rate, weight_decay=WEIGHT_DECAY)
    one_cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, schedule.learning_rate, total_steps=steps)
    model.train()
    for step, batch in enumerate(schedule.batches(indices), start=1):
        loss = loss_of(batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, GRADIENT_NORM)
        optimizer.step()
        one_cycle.step()
        if step % 20 == 0 or step == steps:
            if not bool(torch.isfinite(loss)):
                raise Diverged(f"the fine-tuning's loss is {float(loss.detach())} by step {step} of {steps}")
            progress(step, steps)


def train_averaged(
    model: nn.Module,
    indices: np.ndarray,
    schedule: Schedule,
    decay: float,
    loss_of: Callable[[Tensor], Tensor],
) -> Iterator[tuple[int, nn.Module]]:
    """Trains with Adam; yields the Polyak average, in evaluation mode, halfway and at the end (thesis 7.4.1).

    The average runs over weights and batch-norm statistics alike.

    Args:
        model: trained in place, on its device.
        indices: the indices of the samples that are learned.
        schedule: its rate is constant.
        decay: the decay of the average at every step, at least 0 and below 1.
        loss_of: the loss of a batch of indices, int64 on the device, by ``model``; see `losses_of_steps`.

    Yields:
        The number of steps done, and the average as it stands then; it goes on to change when the training goes on.

    Raises:
        Diverged: the loss is not finite.
    """
    model.train()
    average = PolyakAverage(model, decay)
    step = TrainingStep(model, schedule.learning_rate, loss_of, average)
    losses: list[Tensor] = []
    for loss in losses_of_steps(step, on_device_of(model, schedule.batches(indices))):
        losses.append(loss)  # looked at twice, so that no step waits for its value
        if (done := len(losses)) in (schedule.steps // 2, schedule.steps):
            check_losses(losses, schedule.steps)
            yield done, average.module


def scores_along(
    averages: Iterator[tuple[int, Model]],
    steps: int,
    options: TaskOptions,
    losses: Callable[[Model], dict[str, float]],
    average_precision: Callable[[Model], dict[str, float]],
    complexity: dict[str, float],
) -> Iterator[Interim | Score]:
    """What a task yields of a training whose reward is the negative loss, or average precision.

    Args:
        averages: from `train_averaged`.
        steps: of the whole training.
        options: say which reward; the other figure is measured too where ``all_metrics`` asks, at the end.
        losses: ``loss`` and its terms on meta-val.
        average_precision: ``ap`` and what belongs to it on meta-val.
        complexity: ``params`` and ``macs``.
    """
    by_metric = options.reward == "metric"
    for step, model in averages:
        metrics = losses(model)
        if by_metric or (options.all_metrics and step == steps):
            metrics |= average_precision(model)
        reward = metrics["ap"] if by_metric else -metrics["loss"]
        metrics |= complexity
        yield Score(reward, metrics) if step == steps else Interim(step, steps, reward, metrics)


class LossSums(Protocol):
    """The terms of a loss, summed over what they count, and what divides them; sums of batches may be added."""

    def __add__(self, other: Self) -> Self: ...

    def terms(self) -> dict[str, Tensor]:
        """The losses by name, each divided."""

    def total(self) -> Tensor:
        """The sum of the terms."""


@torch.inference_mode()
def mean_loss(sums_of: Callable[[np.ndarray], LossSums], indices: np.ndarray, batch_size: int) -> dict[str, float]:
    """``loss`` and its terms ``loss_...`` over all of ``indices``, as if they were one batch.

    Args:
        sums_of: gives the summed losses of a batch of indices.
        indices: the indices of the samples that are scored.
        batch_size: bounds the memory, does not change the result.

    Raises:
        Diverged: a loss is not finite.
    """
    sums = functools.reduce(operator.add, (sums_of(part) for part in in_parts(indices, batch_size)))
    values = {"loss": float(sums.total())} | {f"loss_{name}": float(term) for name, term in sums.terms().items()}
    if not np.isfinite(list(values.values())).all():
        raise Diverged(f"the loss on meta-val is {values['loss']}")
    return values
