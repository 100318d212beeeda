"""One training step, done again and again on other rows: operation by operation, or on a GPU as one CUDA graph.

A graph holds the operations of a step with their memory, and replays them without Python: where each takes some
microseconds, as in a decoder on cached features, launching them one by one takes longer than they do. What can be
captured is a step that waits for the device nowhere and computes with the same Python numbers each time. So the row
numbers of a whole training go to the device at once, and optimiser and average keep their state there.
"""

import functools
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy

import numpy as np
import torch
from torch import Tensor, nn

from proxy_tasks.precision import reduced_products

__all__ = ["PolyakAverage", "TrainingStep", "losses_of_steps", "on_device_of"]

WARM_UP = 3  # steps before a capture: libraries choose kernels and allocate, and the optimiser makes its state
Replay = Callable[[Tensor], Tensor]


def on_device_of(model: nn.Module, numbers: np.ndarray) -> Tensor:
    """Row numbers as int64, where the model is."""
    return torch.from_numpy(numbers).to(next(model.parameters()).device)


class PolyakAverage:
    """The exponential moving average of a model's parameters and statistics (Polyak and Juditsky 1992).

    It lives beside the model, so that evaluating it does not disturb training. The first `update` copies the model.
    Counters, which are no floating-point numbers, stay as they were.

    Args:
        model: averaged where it is.
        decay: how much of the average an update keeps, at least 0 and below 1.
    """

    def __init__(self, model: nn.Module, decay: float):
        self.module: nn.Module = deepcopy(model).eval().requires_grad_(False)
        pairs = zip(_floating(self.module), _floating(model), strict=True)
        self._averages, self._values = map(list, zip(*pairs, strict=True))
        self._decay, self._begun = decay, False

    @torch.no_grad()
    def update(self) -> None:
        """Takes in the model as it is."""
        torch._foreach_lerp_(self._averages, self._values, 1 - self._decay if self._begun else 1.0)
        self._begun = True


def _floating(model: nn.Module) -> Iterator[Tensor]:
    for value in model.state_dict(keep_vars=True).values():
        if value.is_floating_point():
            yield value.detach()


class TrainingStep:
    """A step of Adam on the loss of some rows; its state is on the device.

    Args:
        model: trained in place.
        learning_rate: Adam's, constant.
        loss_of: the loss of rows by their numbers, a scalar.
        average: updated after each step.
    """

    def __init__(
        self,
        model: nn.Module,
        learning_rate: float,
        loss_of: Callable[[Tensor], Tensor],
        average: PolyakAverage | None = None,
    ):
        on_cpu = next(model.parameters()).device.type == "cpu"
        self._adam = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True, capturable=not on_cpu)
        self._loss_of, self._average = loss_of, average

    def __call__(self, rows: Tensor) -> Tensor:
        """Takes a step; returns the loss before it."""
        with reduced_products(rows.device):
            loss = self._loss_of(rows)
            self._adam.zero_grad(set_to_none=True)
            loss.backward()
        self._adam.step()
        if self._average:
            self._average.update()
        return loss.detach()


def losses_of_steps(step: Callable[[Tensor], Tensor], batches: Tensor) -> Iterator[Tensor]:
    """Takes a step on each batch, and yields its loss before the next is taken.

    Args:
        step: of the same operations every time, none of which waits for the device.
        batches: the batches one after the other along the first dimension, on the device.
    """
    if batches.device.type != "cuda":
        yield from map(step, batches)
        return
    torch.cuda.empty_cache()  # what the graph before this one held can be used by nothing else
    yield from _captured_once(_beside(step), batches, _graph)


def _captured_once(
    step: Callable[[Tensor], Tensor],
    batches: Tensor,
    capture: Callable[[Callable[[Tensor], Tensor], Tensor], Replay],
) -> Iterator[Tensor]:
    """As `losses_of_steps`: some steps as they are, the others by what ``capture`` makes of a step and a batch."""
    yield from map(step, batches[:WARM_UP])
    rest = batches[WARM_UP:]
    if len(rest) == 0:
        return
    replay: Replay = step
    try:
        replay = capture(step, rest[0])
    except RuntimeError as error:  # of memory too, of which a graph takes more
        reason = _reason(error)
        warnings.warn(f"no CUDA graph of a training step, which is slower without: {reason}", stacklevel=2)
    yield from map(replay, rest)


def _reason(error: RuntimeError) -> str:
    """What went wrong first in a capture that failed, in a line: after it, to end the capture fails as well.

    Raises:
        BaseException: that, where it is no error, as Ctrl-C.
    """
    first: BaseException = error  # not kept: its frames hold what the capture had in memory
    while first.__context__ is not None:
        first = first.__context__
    if not isinstance(first, Exception):
        raise first from None
    return str(first).partition("\n")[0]


@functools.cache
def _stream(device: torch.device) -> torch.cuda.Stream:
    """The stream of all captures on a device: libraries keep memory for each that they have seen."""
    return torch.cuda.Stream(device)


def _beside(step: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The step on a stream of its own: nothing it leaves hangs on the default one, which cannot be captured."""

    def aside(rows: Tensor) -> Tensor:
        stream, current = _stream(rows.device), torch.cuda.current_stream(rows.device)
        stream.wait_stream(current)
        try:
            with torch.cuda.stream(stream):
                return step(rows)
        finally:
            current.wait_stream(stream)

    return aside


def _graph(step: Callable[[Tensor], Tensor], example: Tensor) -> Replay:
    """Captures a step, without taking it."""
    rows, graph = example.clone(), torch.cuda.CUDAGraph()
    with torch.cuda.device(rows.device), torch.cuda.graph(graph, stream=_stream(rows.device)):
        loss = step(rows)

    def replay(batch: Tensor) -> Tensor:
        rows.copy_(batch)
        with torch.cuda.device(rows.device):
            graph.replay()
        return loss.clone()

    return replay
