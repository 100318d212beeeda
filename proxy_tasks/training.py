"""What every short training of a proxy task shares: minibatches, mirrored images, one-cycle schedule, finite losses."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.task import Diverged

__all__ = [
    "check_losses",
    "flips",
    "minibatches",
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
