"""How LSTM-PPO computes: on one thread, without the numbers that slow a processor; and nobody else notices."""

import numpy as np
import torch
from test_controller_lstm_ppo import policy_of

import controllers
import search_spaces


def test_the_policy_is_the_same_with_any_number_of_threads():
    threads = torch.get_num_threads()
    policies = []
    try:
        for number in (1, 4):
            torch.set_num_threads(number)
            controller = controllers.make("lstm-ppo", search_spaces.get("fcos_fpn"), seed=3)
            for _ in range(20):
                proposal = controller.ask()
                controller.tell(proposal, float(np.mean(np.array(proposal.tokens) == 0)))
            assert torch.get_num_threads() == number
            policies.append(policy_of(controller))
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(*policies)


def test_a_settled_policy_learns_without_numbers_that_slow_a_processor():
    controller = controllers.make("lstm-ppo", search_spaces.get("fcos_fpn"), seed=3)
    with torch.no_grad():
        controller.policy.bias[:, 0] += 95  # all else has a probability of 5e-42
    for number in range(5):
        controller.tell(controller.ask(), float(number))
    gradients = torch.cat([parameter.grad.flatten() for parameter in controller.policy.parameters()])
    assert gradients.any()
    assert not ((gradients != 0) & (gradients.abs() < torch.finfo(torch.float32).tiny)).any()
    assert torch.tensor(1e-40).mul(1.0)  # elsewhere they are what they were
