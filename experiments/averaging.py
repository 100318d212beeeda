"""Polyak averaging of a trained network's weights."""

from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

__all__ = ["WeightAverage"]


class WeightAverage:
    """The exponential moving average of a network's weights and buffers along its training.

    The decay of the step after n others is at most (1 + n) / (10 + n), as in TensorFlow's ``ExponentialMovingAverage``
    with ``num_updates``: it looks back over a tenth of a short training, where what it began with would still weigh.

    Args:
        network: what is trained, as it starts.
        decay: the weight of what came before, from 0 to below 1; with 0 nothing is kept beside the network, which is
            its own average.
    """

    def __init__(self, network: nn.Module, decay: float):
        self._network, self._decay = network, decay
        self._average = AveragedModel(network, multi_avg_fn=self._mix, use_buffers=True) if decay else None

    def _mix(self, averages: Any, current: Any, count: Tensor | int) -> None:
        assert self._average is not None, "it is what calls this"
        before = int(self._average.n_averaged)  # on the CPU, unlike `count`: reading it waits for nothing
        decay = min(self._decay, (1 + before) / (10 + before))
        get_ema_multi_avg_fn(decay)(averages, current, count)

    @property
    def network(self) -> Any:
        """The averaged network."""
        return self._network if self._average is None else self._average.module

    def update(self) -> None:
        """Takes in the network as it stands after a step."""
        if self._average is not None:
            self._average.update_parameters(self._network)

    def state_dict(self) -> dict[str, Any]:
        """Empty with a decay of 0."""
        return {} if self._average is None else self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`."""
        if self._average is not None:
            self._average.load_state_dict(state)
