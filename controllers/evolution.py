"""Regularized evolution (Real et al. 2019): tournament selection, one mutation a child, the oldest dies."""

import copy
import itertools
import statistics
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from controllers.base import Proposal
from controllers.checks import check_state, check_whole, finite
from controllers.novelty import MUTATIONS, UNIFORM_DRAWS, SeenKeys
from controllers.parts import PartLog
from search_spaces import Architecture, SearchSpace

__all__ = ["Evolution"]


class Evolution:
    """Ageing evolution (Real et al. 2019, algorithm 1), asynchronous and without repetition.

    The first ``population`` proposals are uniform draws. Members enter as they are told and leave by age in that
    order, so that any number may be open; a failed trial enters nothing.

    Args:
        space: what to propose architectures of.
        seed: determines all random draws.
        population: members alive at once. The default suits hundreds of trials (measured with
            ``benchmarks/controller_learning.py``), the paper's 100 and 25 suit 20 000.
        tournament: members drawn, with replacement, of which the best becomes the parent.

    Raises:
        InputError: an option's value is out of its range.
    """

    def __init__(self, space: SearchSpace, seed: int = 0, *, population: int = 20, tournament: int = 10):
        self.space = space
        self.population = check_whole("population", population, 1)
        self.tournament = check_whole("tournament", tournament, 1)
        self._rng = np.random.default_rng(seed)
        self._asked = 0
        self._seen = SeenKeys()
        self._log = PartLog()
        self._alive: deque[tuple[tuple[int, ...], float]] = deque(maxlen=population)  # the oldest leaves by itself

    def ask(self) -> Proposal:
        """A child of the population, a uniform draw while there are no parents."""
        draws: Iterator[Architecture] = (self.space.sample(self._rng) for _ in range(UNIFORM_DRAWS))
        if self._asked >= self.population and self._alive:
            draws = itertools.chain(self._children(), draws)
        return self._proposal(self._seen.first_unseen(draws))

    def propose(self, tokens: Sequence[int]) -> Proposal:
        """See `StartableController`: one of the first ``population`` proposals, in place of a uniform draw."""
        return self._proposal(self._seen.first_unseen([self.space.architecture(tokens)]))

    def _proposal(self, architecture: Architecture) -> Proposal:
        self._asked += 1
        self._log.mark("asked", "generator", self._seen.last_part)
        return Proposal(self._asked - 1, architecture.tokens)

    def _children(self) -> Iterator[Architecture]:
        """Mutants of one parent: one choice takes another of its options."""
        drawn = self._rng.integers(len(self._alive), size=self.tournament)
        parent, _ = max((self._alive[i] for i in drawn), key=lambda member: member[1])
        open_choices = [i for i, choice in enumerate(self.space.choices) if len(choice.options) > 1]
        for _ in range(MUTATIONS if open_choices else 0):
            position = int(self._rng.choice(open_choices))
            options = len(self.space.choices[position].options)
            token = (parent[position] + int(self._rng.integers(1, options))) % options
            yield self.space.architecture((*parent[:position], token, *parent[position + 1 :]))

    def tell(self, proposal: Proposal, reward: float | None) -> None:
        """Adds a member as the youngest; a failed trial is dropped."""
        tokens = self.space.validate(proposal.tokens)
        reward = finite(reward)
        if reward is not None:
            self._alive.append((tokens, reward))
            self._log.mark("alive")

    def diagnostics(self) -> dict[str, float]:
        """``population`` (its size now), ``population_best`` and ``population_median`` (rewards)."""
        rewards = [reward for _, reward in self._alive]
        if not rewards:
            return {}
        figures = {"population_best": max(rewards), "population_median": statistics.median_low(rewards)}
        return {"population": float(len(rewards)), **figures}

    def _parts(self) -> dict[str, Any]:
        return {
            "controller": "evolution",
            "space": self.space.name,
            "generator": self._rng.bit_generator.state,
            "asked": self._asked,
            "alive": [{"tokens": list(tokens), "reward": reward} for tokens, reward in self._alive],
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
        check_state(state, "evolution", self.space)
        self._rng.bit_generator.state = state["generator"]
        self._asked = state["asked"]
        self._seen.load(state)
        alive = [(tuple(member["tokens"]), member["reward"]) for member in state["alive"]]
        self._alive = deque(alive, maxlen=self.population)
        self._log.restart(state)
