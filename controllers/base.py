"""The controller's contract: it proposes architectures and learns from their rewards."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from search_spaces.space import SearchSpace

__all__ = ["Controller", "Proposal"]


@dataclass(frozen=True)
class Proposal:
    """What a controller asks to have evaluated.

    Args:
        id: counts a controller's proposals from 0.
        tokens: one per choice of the space.
        log_prob: of the whole sequence (nats) under the policy that drew it; 0 where the controller has no policy.
    """

    id: int
    tokens: tuple[int, ...]
    log_prob: float = 0.0


@runtime_checkable
class Controller(Protocol):
    """Proposes by `ask`, learns by `tell`; any number of proposals may be open, told in any order."""

    space: SearchSpace

    def ask(self) -> Proposal:
        """The next proposal."""

    def tell(self, proposal: Proposal, reward: float | None) -> None:
        """The outcome of an asked proposal.

        A reward of None, NaN or an infinity means that the trial failed: it teaches nothing, and the controller stays
        healthy. A proposal that came from this controller before it was restored from `state_dict` is welcome.
        """

    def diagnostics(self) -> dict[str, float]:
        """Figures of the latest update (PPO: ``entropy``, ``approx_kl``, ``clipfrac``, ...); empty before the first."""

    def state_dict(self) -> dict[str, Any]:
        """Everything: weights, optimiser, rollouts, history, random states.

        Nested dicts, lists, strings, numbers, booleans, None and tensors only, so that ``torch.save`` and
        ``torch.load(weights_only=True)`` carry it.
        """

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`: the same next proposal follows."""
