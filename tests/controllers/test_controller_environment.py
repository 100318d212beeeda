import warnings

import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from controllers.environment import TokenSequenceEnv
from search_spaces import Choice, InputError, SearchSpace

SPACE = SearchSpace("steps", tuple(Choice(f"c{i}", "op", tuple("abcde"[:n])) for i, n in enumerate((2, 5, 1, 3))))


def reward_of(architecture) -> float:
    return -1.0 - sum(architecture.tokens)


def test_accepted_by_gymnasium_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(TokenSequenceEnv(SPACE, reward_of), skip_render_check=True)


def test_an_episode_is_one_sequence():
    env = TokenSequenceEnv(SPACE, reward_of)
    observation, info = env.reset(seed=0)
    for position, token in enumerate((1, 4, 0, 2)):
        assert observation in env.observation_space
        assert observation["position"] == position
        options = len(SPACE.choices[position].options)
        assert observation["action_mask"].tolist() == [1] * options + [0] * (5 - options)
        assert np.array_equal(info["action_mask"], observation["action_mask"])
        observation, reward, terminated, truncated, info = env.step(np.int64(token))
        assert (reward, terminated, truncated) == ((-8.0, True, False) if position == 3 else (0.0, False, False))
        assert ("architecture" in info) == (position == 3)
    assert observation in env.observation_space
    assert observation["tokens"].tolist() == [2, 5, 1, 3]
    assert not observation["action_mask"].any()
    assert info["architecture"].tokens == (1, 4, 0, 2)


def test_masked_samples_are_taken_as_they_are():
    env = TokenSequenceEnv(SPACE, reward_of)
    env.action_space.seed(0)
    seen = set()
    for _ in range(200):
        _, info = env.reset()
        actions, terminated = [], False
        while not terminated:
            actions.append(int(env.action_space.sample(mask=info["action_mask"])))
            _, _, terminated, _, info = env.step(actions[-1])
        assert info["architecture"].tokens == tuple(actions)
        seen.add(tuple(actions))
    assert len(seen) == SPACE.cardinality


def test_an_action_beyond_the_options_is_folded():
    env = TokenSequenceEnv(SPACE, reward_of)
    env.reset()
    for action in (3, 4, 4, 4):
        *_, info = env.step(action)
    assert info["architecture"].tokens == (1, 4, 0, 1)


def test_errors():
    with pytest.raises(InputError, match="search space 'void' has no choices"):
        TokenSequenceEnv(SearchSpace("void", ()), reward_of)
    env = TokenSequenceEnv(SPACE, lambda architecture: float("nan"))
    env.reset()
    for _ in range(3):
        env.step(0)
    with pytest.raises(InputError, match=r"reward_fn must return a finite number, got nan for tokens \[0, 0, 0, 0\]"):
        env.step(0)
    with pytest.raises(InputError, match="the episode is over; call reset"):
        env.step(0)
