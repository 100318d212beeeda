"""Random search: uniform and without repetition, the baseline that every other controller has to beat."""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from controllers.base import Proposal
from controllers.checks import check_state
from controllers.novelty import UNIFORM_DRAWS, SeenKeys
from controllers.parts import PartLog
from search_spaces import Architecture, SearchSpace

__all__ = ["RandomSearch"]


class RandomSearch:
    """Draws every token uniformly (Li and Talwalkar 2019); a network comes twice only once the space is exhausted.

    Args:
        space: what to propose architectures of.
        seed: determines all random draws.
    """

    def __init__(self, space: SearchSpace, seed: int = 0):
        self.space = space
        self._rng = np.random.default_rng(seed)
        self._asked = 0
        self._seen = SeenKeys()
        self._log = PartLog()

    def ask(self) -> Proposal:
        """A uniform draw among the networks not yet proposed."""
        draws = (self.space.sample(self._rng) for _ in range(UNIFORM_DRAWS))
        return self._proposal(self._seen.first_unseen(draws))

    def propose(self, tokens: Sequence[int]) -> Proposal:
        """See `StartableController`; what is given is not drawn again."""
        return self._proposal(self._seen.first_unseen([self.space.architecture(tokens)]))

    def _proposal(self, architecture: Architecture) -> Proposal:
        self._asked += 1
        self._log.mark("asked", "generator", self._seen.last_part)
        return Proposal(self._asked - 1, architecture.tokens)

    def tell(self, proposal: Proposal, reward: float | None) -> None:
        """Checks the proposal; the reward teaches nothing."""
        self.space.validate(proposal.tokens)

    def diagnostics(self) -> dict[str, float]:
        """Empty: there are no updates."""
        return {}

    def _parts(self) -> dict[str, Any]:
        return {
            "controller": "random",
            "space": self.space.name,
            "generator": self._rng.bit_generator.state,
            "asked": self._asked,
            **self._seen.parts,
        }

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything; see `Controller.state_dict`."""
        return copy.deepcopy(self._parts())

    def changes(self) -> dict[str, Any]:
        """The parts that have changed; see `PartwiseController.changes`."""
        return self._log.take(self._parts())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; raises `InputError` where it is of another controller or space."""
        check_state(state, "random", self.space)
        self._rng.bit_generator.state = state["generator"]
        self._asked = state["asked"]
        self._seen.load(state)
        self._log.restart(state)
