"""A Gymnasium environment whose episode is one token sequence, for reinforcement learners from elsewhere."""

import math
from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from search_spaces import Architecture, InputError, SearchSpace

__all__ = ["TokenSequenceEnv"]


class TokenSequenceEnv(gymnasium.Env[dict[str, Any], np.int64]):
    """Takes one token a step, in the order of the choices; the reward comes with the last token, 0 before it.

    Notation: T choices, K the largest number of options a choice has.

    The action is a token, ``Discrete(K)``. Where the choice at hand has fewer options than K, an action beyond them is
    folded into their range (modulo their number), so that every sequence of actions spells an architecture; learners
    that can mask should take the mask.

    The observation is a dict:

    - ``tokens``: (T,) int64, 0 for a choice not yet taken, else 1 + the token taken;
    - ``position``: the index of the choice at hand, T once the episode is over;
    - ``action_mask``: (K,) int8, 1 for the options of the choice at hand, all 0 once the episode is over; also in the
      info, and of the type that ``action_space.sample(mask)`` takes.

    An episode always lasts T steps and is never truncated; its last info holds the ``architecture``.

    Args:
        space: gives the choices; at least one.
        reward_fn: scores a finished architecture; a finite number.

    Raises:
        InputError: the space has no choices; the reward is not finite; a step after the end of an episode.
    """

    def __init__(self, space: SearchSpace, reward_fn: Callable[[Architecture], float]):
        if not len(space):
            raise InputError(f"search space {space.name!r} has no choices; an episode needs at least one")
        self.space = space
        self.reward_fn = reward_fn
        options = [len(choice.options) for choice in space.choices]
        self._widest = max(options)
        self.action_space = spaces.Discrete(self._widest)
        self.observation_space = spaces.Dict(
            {
                "tokens": spaces.MultiDiscrete([1 + number for number in options]),
                "position": spaces.Discrete(1 + len(space)),
                "action_mask": spaces.MultiBinary(self._widest),
            }
        )
        self._tokens: list[int] = []

    def _observe(self) -> dict[str, Any]:
        position = len(self._tokens)
        tokens = np.zeros(len(self.space), dtype=np.int64)
        tokens[:position] = np.add(self._tokens, 1)
        mask = np.zeros(self._widest, dtype=np.int8)
        if position < len(self.space):
            mask[: len(self.space.choices[position].options)] = 1
        return {"tokens": tokens, "position": np.int64(position), "action_mask": mask}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Starts an empty sequence; see `gymnasium.Env.reset`. The environment has no randomness and no options."""
        super().reset(seed=seed)
        self._tokens = []
        observation = self._observe()
        return observation, {"action_mask": observation["action_mask"]}

    def step(self, action: np.int64) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Takes a token; see `gymnasium.Env.step`."""
        if len(self._tokens) == len(self.space):
            raise InputError("the episode is over; call reset before the next step")
        self._tokens.append(int(action) % len(self.space.choices[len(self._tokens)].options))
        observation = self._observe()
        info: dict[str, Any] = {"action_mask": observation["action_mask"]}
        if len(self._tokens) < len(self.space):
            return observation, 0.0, False, False, info
        info["architecture"] = self.space.architecture(self._tokens)
        reward = float(self.reward_fn(info["architecture"]))
        if not math.isfinite(reward):
            raise InputError(f"reward_fn must return a finite number, got {reward} for tokens {self._tokens}")
        return observation, reward, True, False, info
