import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Categorical

import controllers
from controllers.policy import TokenPolicy
from controllers.ppo import Batch, explained_variance, ppo_loss, rank_normalise, taken
from search_spaces import Choice, SearchSpace

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
LEARNING = runpy.run_path(str(BENCHMARKS / "controller_learning.py"))
DIAGNOSTICS = {
    "approx_kl", "clipfrac", "entropy", "explained_variance", "policy_loss", "value_loss", "grad_norm", "updates",
}  # fmt: skip


def mixed_space() -> SearchSpace:
    """Choices of 1 to 5 options; two kinds share an option name, two choices share a kind."""
    sizes = {"0.x": ("input", 3), "0.op": ("op", 5), "1.x": ("input", 4), "1.op": ("op", 5), "1.agg": ("agg", 1)}
    return SearchSpace("mixed", tuple(Choice(n, kind, tuple("abcde"[:k])) for n, (kind, k) in sizes.items()))


def random_policy(seed: int = 0) -> TokenPolicy:
    """A float64 policy far from its uniform start, so that a slip in any gate shows."""
    generator = torch.Generator().manual_seed(seed)
    policy = TokenPolicy(mixed_space(), generator, hidden=6).double()
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.uniform_(-1.5, 1.5, generator=generator)
    return policy


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slow_episode(policy: TokenPolicy, tokens: list[int]) -> tuple[list[np.ndarray], list[float]]:
    """Probabilities of the options and the value at each token, from the LSTM's textbook equations."""
    weights = {name: value.detach().numpy() for name, value in policy.state_dict().items()}
    space = mixed_space()
    words = list(dict.fromkeys((c.kind, o) for c in space.choices for o in c.options))
    states, word, probabilities, values = [(np.zeros(6), np.zeros(6))] * 2, 0, [], []
    for t, (choice, token) in enumerate(zip(space.choices, tokens, strict=True)):
        x = weights["embedding.weight"][word]
        for layer in (0, 1):
            h, c = states[layer]
            w_ih, w_hh = weights[f"lstm.weight_ih_l{layer}"], weights[f"lstm.weight_hh_l{layer}"]
            gates = w_ih @ x + w_hh @ h + weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"]
            i, f, g, o = np.split(gates, 4)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            x = sigmoid(o) * np.tanh(c)
            states[layer] = (x, c)
        logits = (weights["weight"][t] @ x + weights["bias"][t])[: len(choice.options)]
        probabilities.append(np.exp(logits) / np.exp(logits).sum())
        values.append((weights["value.weight"] @ x + weights["value.bias"]).item())
        word = 1 + words.index((choice.kind, choice.options[token]))
    return probabilities, values


def slow_loss(policy: TokenPolicy, batch: Batch, clip: float, entropy_weight: float, value_weight: float) -> float:
    """The loss, one sequence and one token at a time."""
    total, count = 0.0, 0
    for n, tokens in enumerate(batch.tokens.tolist()):
        probabilities, values = slow_episode(policy, tokens)
        for t, token in enumerate(tokens):
            ratio = probabilities[t][token] / math.exp(batch.log_probs[n, t])
            advantage = float(batch.advantages[n, t])
            clipped = min(max(ratio, 1 - clip), 1 + clip)
            total -= float(batch.weights[n, t]) * min(ratio * advantage, clipped * advantage)
            total -= entropy_weight * -sum(p * math.log(p) for p in probabilities[t])
            total += value_weight * 0.5 * (values[t] - float(batch.targets[n])) ** 2
            count += 1
    return total / count


def random_batch(policy: TokenPolicy, size: int = 8) -> Batch:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.from_numpy(policy.sample(generator, [1.0] * size)[0])
    draw = torch.randn(3, size, tokens.shape[1], generator=generator, dtype=torch.float64)
    log_probs = taken(policy(tokens)[0], tokens).detach() + 0.4 * draw[0]  # ratios on both sides of the clip
    return Batch(tokens, log_probs, draw[1], draw[2, :, :1], torch.rand(draw[0].shape, generator=generator).double())


def test_policy_equals_the_textbook_lstm():
    policy = random_policy()
    for tokens in ([0, 0, 0, 0, 0], [2, 4, 3, 1, 0], [1, 2, 0, 4, 0]):
        log_probs, values = policy(torch.tensor([tokens]))
        probabilities, expected = slow_episode(policy, tokens)
        for t, slow in enumerate(probabilities):
            padded = np.pad(slow, (0, 5 - len(slow)))
            np.testing.assert_allclose(log_probs[0, t].exp().detach().numpy(), padded, atol=1e-12)
        np.testing.assert_allclose(values[0].detach().numpy(), expected, atol=1e-12)


def test_teacher_forced_equals_sampled():
    controller = controllers.make("lstm-ppo", LEARNING["block_space"]())
    asked = [controller.ask() for _ in range(20)]
    tokens = torch.tensor([proposal.tokens for proposal in asked])
    forced = taken(controller.policy(tokens)[0], tokens).sum(dim=1)
    torch.testing.assert_close(forced.detach(), torch.tensor([p.log_prob for p in asked]), rtol=0, atol=1e-4)


def test_sampling_follows_the_probabilities():
    policy, generator = random_policy(), torch.Generator().manual_seed(0)
    policy.float()
    draws = [tuple(draw[:2]) for draw in policy.sample(generator, [1.0] * 1000)[0]]
    first, _ = slow_episode(policy, [0] * 5)
    observed, expected = [], []
    for token in range(3):
        second, _ = slow_episode(policy, [token, 0, 0, 0, 0])
        observed += [sum(draw == (token, other) for draw in draws) for other in range(5)]
        expected += list(1000 * first[0][token] * second[1])
    assert stats.chisquare(observed, expected).pvalue > 1e-3


def test_starts_close_to_uniform():
    space = LEARNING["block_space"]()
    policy = TokenPolicy(space, torch.Generator().manual_seed(0))
    assert all(bool((parameter.abs() <= 0.1).all()) for parameter in policy.parameters())
    log_probs, _ = policy(torch.zeros(1, len(space), dtype=torch.int64))
    uniform = torch.tensor([math.log(len(choice.options)) for choice in space.choices])
    torch.testing.assert_close(Categorical(logits=log_probs).entropy()[0], uniform, rtol=0, atol=0.02)


def test_a_token_conditions_those_after_it_and_none_before():
    policy = random_policy()
    log_probs, _ = policy(torch.tensor([[0, 1, 2, 3, 0], [0, 4, 2, 3, 0]]))
    difference = (log_probs[0].exp() - log_probs[1].exp()).abs().amax(dim=-1)
    assert difference[:2].max() == 0
    assert difference[2:4].min() > 1e-3
    assert difference[4] == 0  # a choice of one option


def test_one_kind_and_option_is_one_word():
    vocabulary = TokenPolicy(mixed_space(), torch.Generator(), hidden=6).vocabulary
    assert vocabulary[0, :3].tolist() == vocabulary[2, :3].tolist()
    assert vocabulary[1].tolist() == vocabulary[3].tolist()
    assert not set(vocabulary[0].tolist()) & set(vocabulary[1].tolist()) - {0}
    assert vocabulary[4].tolist()[1:] == [0, 0, 0, 0]


def test_loss_equals_the_slow_reference():
    policy = random_policy()
    batch = random_batch(policy)
    loss, figures = ppo_loss(*policy(batch.tokens), batch, 0.2, 0.05, 0.3)
    assert float(loss.detach()) == pytest.approx(slow_loss(policy, batch, 0.2, 0.05, 0.3), abs=1e-12)
    assert 0.2 < float(figures["clipfrac"]) < 1
    assert float(figures["approx_kl"].detach()) > 0


def test_gradient_equals_the_slow_reference():
    policy = random_policy()
    batch = random_batch(policy)
    ppo_loss(*policy(batch.tokens), batch, 0.2, 0.05, 0.3)[0].backward()
    generator, step = torch.Generator().manual_seed(3), 1e-6
    parameters = list(policy.parameters())
    for _ in range(3):
        directions = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        expected = sum(float((p.grad * d).sum()) for p, d in zip(parameters, directions, strict=True))
        losses = []
        with torch.no_grad():
            for scale in (step, -2 * step, step):  # forward, backward, and to where it was
                for parameter, direction in zip(parameters, directions, strict=True):
                    parameter += scale * direction
                losses.append(slow_loss(policy, batch, 0.2, 0.05, 0.3))
        assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(expected, rel=1e-4)


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=2, max_size=30))
def test_rank_normalise_equals_scipy(rewards):
    normalised = rank_normalise(rewards).numpy()
    if len(set(rewards)) == 1:
        assert not normalised.any()
    else:
        np.testing.assert_allclose(normalised, stats.zscore(stats.rankdata(rewards)), atol=1e-6)


def test_explained_variance():
    targets = torch.tensor([[-1.0], [0.0], [4.0]])
    assert explained_variance(targets.expand(3, 2), targets) == pytest.approx(1)
    assert explained_variance(torch.full((3, 2), 7.0), targets) == pytest.approx(0)
    assert explained_variance(-targets.expand(3, 2), targets) == pytest.approx(-3)
    assert explained_variance(torch.ones(3, 2), torch.zeros(3, 1)) == 0


def told(rewards, **options):
    """A controller after being told ``rewards`` of its proposals."""
    controller = controllers.make("lstm-ppo", mixed_space(), rollouts=5, **options)
    asked = [controller.ask() for _ in rewards]
    for proposal, reward in zip(asked, rewards, strict=True):
        controller.tell(proposal, reward)
    return controller


def policy_of(controller) -> torch.Tensor:
    return torch.cat([value.flatten() for value in controller.policy.state_dict().values()])


def test_updates_once_a_batch_is_full():
    controller = controllers.make("lstm-ppo", mixed_space(), rollouts=3)
    start = policy_of(controller)
    for number in range(1, 10):
        controller.tell(controller.ask(), -float(number))
        controller.tell(controller.ask(), None)
        figures = controller.diagnostics()
        assert figures.get("updates", 0) == number // 3
        assert torch.equal(policy_of(controller), start) == (number < 3)
    assert set(figures) == DIAGNOSTICS
    assert 0 < figures["entropy"] < math.log(5)
    assert 0 <= figures["clipfrac"] <= 1
    assert figures["approx_kl"] > 0
    assert figures["grad_norm"] > 0


def test_scale_and_shift_do_not_matter():
    rewards = np.random.default_rng(0).normal(size=10)
    first = policy_of(told(rewards))
    assert torch.equal(first, policy_of(told(1e30 * rewards)))
    assert torch.equal(first, policy_of(told(1e-3 * rewards - 40)))
    assert not torch.equal(first, policy_of(told(-rewards)))


def test_equal_rewards_prefer_nothing():
    assert told([-1.5] * 5).diagnostics()["policy_loss"] == 0
    start = told([])
    assert torch.equal(policy_of(told([-1.5] * 5, entropy_weight=0, value_weight=0)), policy_of(start))


def test_tokens_the_policy_no_longer_draws_count_less():
    pure = {"entropy_weight": 0, "value_weight": 0, "rollouts": 5}
    fresh, later = (controllers.make("lstm-ppo", mixed_space(), **pure) for _ in range(2))
    asked = [fresh.ask() for _ in range(5)]
    state = fresh.state_dict()
    for number in range(5):  # as though the first token had been e^200 times likelier, the others less likely
        state[f"open.{number}"] = [200.0, -5.0, -5.0, -5.0, -5.0]
    later.load_state_dict(state)
    start = later.policy.weight.detach().clone()
    for proposal, reward in zip(asked, (3.0, 1.0, 4.0, 1.5, 9.0), strict=True):
        fresh.tell(proposal, reward)
        later.tell(proposal, reward)
    # No weight for the first token, full weight for the others, whatever the weight of the whole sequence.
    assert torch.equal(later.policy.weight[0], start[0])
    assert not torch.equal(fresh.policy.weight[0], start[0])
    assert not torch.equal(later.policy.weight[1], start[1])


def test_learns_a_dependence_that_independent_tokens_cannot_hold():
    # Equal tokens pay: only a policy that conditions keeps the first token open and the second one right.
    space = SearchSpace("pair", (Choice("first", "op", ("a", "b")), Choice("second", "op", ("a", "b"))))
    controller = controllers.make("lstm-ppo", space, entropy_weight=0.3, learning_rate=0.01)
    outcomes = []
    for _ in range(600):
        proposal = controller.ask()
        outcomes.append(proposal.tokens)
        controller.tell(proposal, -1.0 if proposal.tokens[0] == proposal.tokens[1] else -2.0)
    last = outcomes[-200:]
    assert np.mean([a == b for a, b in last]) > 0.8
    assert 0.2 < np.mean([a for a, _ in last]) < 0.8


@pytest.mark.parametrize(("seed", "landscape"), enumerate(("matches", "noisy matches", "table")))
def test_learns_a_reward_with_a_known_optimum(seed, landscape):
    learnt, chance = (LEARNING["run"](name, landscape, seed, 250) for name in ("lstm-ppo", "random"))
    assert learnt.best(250) > chance.best(250)
    assert np.mean(learnt.values) > np.mean(chance.values)
    assert learnt.last(250) > 0.6 * chance.last(250)  # rewards are negative, the optimum is 0


def test_learns_with_many_trials_open():
    # Of 200 proposals the first 64 are blind, and every reward comes 64 proposals late.
    outcomes = [LEARNING["run"]("lstm-ppo", "matches", seed, 200, opened=64, blocks=3) for seed in range(3)]
    assert np.mean([outcome.last(200) for outcome in outcomes]) > -0.42  # chance is -0.8, the optimum 0
