"""Random search: uniform and without repetition, the baseline that every other controller has to beat."""

from typing import Any

import numpy as np

from controllers.base import Proposal
from controllers.checks import check_state
from controllers.novelty import UNIFORM_DRAWS, first_unseen
from search_spaces import SearchSpace

__all__ = ["RandomSearch"]


class RandomSearch:
    """Draws every token uniformly (Li and Talwalkar 2019); a network comes twice only once the space is exhausted.

    Args:
        space: what to propose architectures of.
        seed: of all draws.
    """

    def __init__(self, space: SearchSpace, seed: int = 0):
        self.space = space
        self._rng = np.random.default_rng(seed)
        self._asked = 0
        self._seen: set[str] = set()

    def ask(self) -> Proposal:
        """A uniform draw among the networks not yet proposed."""
        draws = (self.space.sample(self._rng) for _ in range(UNIFORM_DRAWS))
        self._asked += 1
        return Proposal(self._asked - 1, first_unseen(draws, self._seen).tokens)

    def tell(self, proposal: Proposal, reward: float | None) -> None:
        """Checks the proposal; the reward teaches nothing."""
        self.space.validate(proposal.tokens)

    def diagnostics(self) -> dict[str, float]:
        """Empty: there are no updates."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything; see `Controller.state_dict`."""
        return {
            "controller": "random",
            "space": self.space.name,
            "generator": self._rng.bit_generator.state,
            "asked": self._asked,
            "seen": sorted(self._seen),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; raises `InputError` where it is of another controller or space."""
        check_state(state, "random", self.space)
        self._rng.bit_generator.state = state["generator"]
        self._asked, self._seen = state["asked"], set(state["seen"])
