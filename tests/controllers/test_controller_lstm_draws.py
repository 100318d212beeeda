"""What LSTM-PPO draws where its first draw was proposed before, and with a policy of a former version."""

import pytest
import torch
from test_controller_lstm_ppo import mixed_space, random_policy

import controllers


def test_a_hotter_draw_has_the_probabilities_of_divided_logits():
    policy, generator = random_policy().float(), torch.Generator().manual_seed(0)
    heat = torch.tensor([0.5, 1.0, 3.0, 6.0])
    tokens, log_probs = map(torch.from_numpy, policy.sample(generator, heat.tolist()))
    logits = policy(tokens)[0] / heat[:, None, None]
    expected = logits.log_softmax(dim=-1).gather(2, tokens[..., None])[..., 0]
    torch.testing.assert_close(log_probs, expected.detach(), rtol=0, atol=1e-5)


def test_a_settled_policy_still_proposes_what_is_new():
    controller = controllers.make("lstm-ppo", mixed_space())
    with torch.no_grad():
        controller.policy.bias[:, 0] = 12.0  # all but sure of every first option
    asked = [controller.ask() for _ in range(15)]
    assert asked[0].tokens == (0,) * 5
    assert len({proposal.tokens for proposal in asked}) >= 13
    assert asked[-1].log_prob > -12 * 2  # as drawn, hot


def test_a_state_of_a_larger_policy_goes_on():
    small, large = (controllers.make("lstm-ppo", mixed_space()) for _ in range(2))
    large._make_policy(hidden=100)
    large._snapshot = large._weights()
    small.load_state_dict(large.state_dict())
    assert small.policy.lstm.hidden_size == 100
    assert [small.ask() for _ in range(5)] == [large.ask() for _ in range(5)]


def test_an_exhausted_space_is_drawn_from_by_the_policy_as_it_is():
    controller = controllers.make("lstm-ppo", mixed_space())
    asked = {controller.ask().tokens for _ in range(2000)}
    assert len(asked) == controller.space.cardinality
    with torch.no_grad():
        controller.policy.bias[:, 0] = 12.0
    assert [controller.ask().tokens for _ in range(5)] == [(0,) * 5] * 5


def test_a_policy_that_is_no_number_is_not_drawn_from():
    controller = controllers.make("lstm-ppo", mixed_space())
    with torch.no_grad():
        controller.policy.lstm.bias_hh_l0[0] = torch.nan
    with pytest.raises(FloatingPointError, match="the policy's weights"):
        controller.ask()
