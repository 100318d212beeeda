"""The controller's contract: it proposes architectures and learns from their rewards."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from search_spaces.space import SearchSpace

__all__ = [
    "WHOLE",
    "Controller",
    "PartwiseController",
    "Proposal",
    "StartableController",
    "changed_parts",
    "restore",
]

WHOLE = "whole"
"""The name of the one part of a controller that has no `changes`, which is its whole state."""


@dataclass(frozen=True)
class Proposal:
    """What a controller asks to have evaluated.

    Args:
        id: counts a controller's proposals from 0.
        tokens: one per choice of the space.
        log_prob: the whole sequence's log-probability (nats) under the policy that drew it; 0 where there is no policy.
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
        """Restores `state_dict` in a controller made with the same options: the same next proposal follows."""


@runtime_checkable
class StartableController(Controller, Protocol):
    """A controller that can be given architectures to start from, and learns from their rewards as from its own."""

    def propose(self, tokens: Sequence[int]) -> Proposal:
        """A proposal of ``tokens`` in place of what `ask` would draw; counted, open and told as any other.

        Raises:
            InputError: tokens that do not fit the space.
        """


@runtime_checkable
class PartwiseController(Controller, Protocol):
    """A controller whose state is saved part by part, each under its own name, so that a trial writes little.

    The parts are the entries of `state_dict`. None is never the value of a part.
    """

    def changes(self) -> dict[str, Any]:
        """The parts that have changed since the last call; None stands for a part that is gone.

        The first call, and the first one after `load_state_dict`, returns all parts. Whoever calls must save what it
        gets in one transaction: the next call does not repeat it. The parts saved are then equal to `state_dict`. They
        are no copies: they are to be saved before anything else is asked of the controller.
        """


def changed_parts(controller: Controller) -> dict[str, Any]:
    """What is to be saved now: one row for each name, in place of the former; None means that the row is deleted.

    A controller without `PartwiseController.changes` is saved whole, as a single part.
    """
    return controller.changes() if isinstance(controller, PartwiseController) else {WHOLE: controller.state_dict()}


def restore(controller: Controller, parts: dict[str, Any]) -> None:
    """Restores a controller from all parts that `changed_parts` gave and that are not gone, or from a `state_dict`."""
    controller.load_state_dict(parts[WHOLE] if parts.keys() == {WHOLE} else parts)
