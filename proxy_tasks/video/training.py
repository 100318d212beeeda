"""Training a cell on the static network's cached outputs, and scoring it on them.

Notation: B sequences of T frames; C classes; maps at stride 8 are h x w.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.precision import reduced
from proxy_tasks.rows import Numbers
from proxy_tasks.stepping import TrainingStep, losses_of_steps, on_device_of
from proxy_tasks.task import Diverged
from proxy_tasks.training import check_losses, minibatches
from proxy_tasks.video.loss import cross_entropy_sums
from proxy_tasks.video.metrics import Segmentation, confusion
from proxy_tasks.video.network import upsample
from proxy_tasks.video.preparing import Side
from proxy_tasks.video.settings import VideoSettings

__all__ = ["score", "train_cell"]


def train_cell(
    cell: nn.Module, classifier: nn.Module, side: Side, settings: VideoSettings, seed: int
) -> Iterator[tuple[int, int]]:
    """Trains a cell in place by Adam; the loss is summed over the frames after the first (thesis 6.4.1).

    Args:
        cell: in its initial state.
        classifier: the static network's, which stays as it is.
        side: the sequences to learn from.
        settings: the batch size, the number of epochs and the learning rate.
        seed: draws the batches.

    Yields:
        after each step, the number of steps done and that of all.

    Raises:
        Diverged: a loss is not finite; they are looked at halfway and at the end.
    """
    numbers = np.arange(len(side.sequences))
    size = min(settings.batch_size, len(numbers))
    steps = -(-settings.epochs * len(numbers) // size)
    batches = on_device_of(cell, side.sequences[minibatches(numbers, size, steps, seed)])

    def loss_of(sequences: Tensor) -> Tensor:
        cell.train()
        with reduced(sequences.device):
            scores = (logits.float() for logits in side.unrolled(cell, classifier, sequences))
            return _loss(_loss_sums(scores, side, sequences))

    losses = []
    for loss in losses_of_steps(TrainingStep(cell, settings.learning_rate, loss_of), batches):
        losses.append(loss)
        if (step := len(losses)) in (steps // 2, steps):
            check_losses(losses, steps)
        yield step, steps


@torch.inference_mode()
def score(
    outputs: Callable[[np.ndarray], Iterator[Tensor]], side: Side, classes: int, batch_size: int
) -> dict[str, float]:
    """``score``, the geometric mean of the next three, ``miou``, ``fwiou``, ``macc`` and ``loss`` of all sequences.

    Args:
        outputs: gives the class scores of some sequences by their frames, as `Side.unrolled` and `Side.per_frame` do.
        side: the sequences to score on.
        classes: the number of classes.
        batch_size: the number of sequences at a time, which does not change the result.

    Raises:
        Diverged: a class score is not finite.
    """
    matrix, sums = torch.zeros(classes, classes, dtype=torch.int64), torch.zeros(side.sequences.shape[1] - 1, 2)
    numbers = np.arange(len(side.sequences))
    for rows in np.array_split(numbers, -(-len(numbers) // batch_size)):
        sequences = side.sequences[rows]
        with reduced(side.outputs.device):
            scores = [logits.float() for logits in outputs(sequences)]
        sums += _loss_sums(scores, side, sequences).cpu()
        for logits, frames in zip(scores, sequences.T[1:], strict=True):
            labels = side.frames.labels(frames).to(logits.device)
            height, width = labels.shape[-2:]
            matrix += confusion(upsample(logits, (height, width)).argmax(dim=1), labels, classes).cpu()
    loss = float(_loss(sums))
    if not np.isfinite(loss):
        raise Diverged(f"the loss on meta-val is {loss}")
    result = Segmentation.of(matrix)
    return {name: getattr(result, name) for name in ("score", "miou", "fwiou", "macc")} | {"loss": loss}


def _loss_sums(outputs: Iterable[Tensor], side: Side, sequences: Numbers) -> Tensor:
    """For each frame after the first, the summed cross-entropy and the pixels that are not void: (T - 1, 2)."""
    pairs = zip(outputs, sequences.T[1:], strict=True)
    return torch.stack([cross_entropy_sums(logits, side.outputs.labels(frames)) for logits, frames in pairs])


def _loss(sums: Tensor) -> Tensor:
    """Cross-entropy summed over the frames after the first, each a mean over its pixels that are not void."""
    return (sums[:, 0] / sums[:, 1].clamp(min=1)).sum()
