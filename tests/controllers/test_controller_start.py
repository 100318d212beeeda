"""Controllers that are given architectures to start from, by the same suite for every controller."""

import math

import pytest
from test_controller_contract import NAMES, make, reward_of, through_a_file, tiny_space

import controllers
from controllers.base import StartableController
from search_spaces import Choice, InputError, SearchSpace


@pytest.mark.parametrize("name", NAMES)
def test_starts_from_what_it_is_given(name):
    controller, given = make(name), [(0, 2, 3, 1, 4, 0), (2, 2, 2, 2, 2, 2)]
    assert isinstance(controller, StartableController)
    started = [controller.propose(tokens) for tokens in given]
    assert [(proposal.id, proposal.tokens) for proposal in started] == list(enumerate(given))
    assert all(proposal.log_prob <= 0 for proposal in started)
    with pytest.raises(InputError, match=r"search space 'small' takes 6 tokens, got 1"):
        controller.propose((0,))
    controller.tell(started[0], -1.0)  # the other is in flight
    restored = make(name, seed=1)
    restored.load_state_dict(through_a_file(controller.state_dict()))
    for each in (controller, restored):
        each.tell(started[1], -2.0)
        for turn in range(12):
            proposal = each.ask()
            assert proposal.id == 2 + turn
            each.tell(proposal, reward_of(proposal))
    assert controller.ask() == restored.ask()
    assert controller.diagnostics() == restored.diagnostics()


@pytest.mark.parametrize("name", ["evolution", "random"])
def test_does_not_propose_again_what_it_was_given(name):
    controller = make(name, tiny_space(2, 3))
    asked = [controller.propose((1, 2)), *(controller.ask() for _ in range(5))]
    assert len({proposal.tokens for proposal in asked}) == 6


def test_evolution_breeds_from_what_it_was_given():
    space = SearchSpace("wide", tuple(Choice(f"c{i}", "op", tuple("abcdefgh")) for i in range(12)))
    controller = controllers.make("evolution", space, population=3, tournament=50)
    for given in ((7,) * 12, (0,) * 12, (1,) * 12):
        controller.tell(controller.propose(given), float(sum(given)))
    assert sum(token == 7 for token in controller.ask().tokens) == 11  # of the best; no uniform draw comes before


def test_lstm_ppo_learns_from_what_it_was_given():
    controller = make("lstm-ppo")
    given = (2, 2, 3, 1, 4, 0)
    before = controller.propose(given)
    assert before.log_prob == pytest.approx(-math.log(3 * 3 * 4 * 3 * 5 * 3), abs=0.5)  # near uniform as yet
    controller.tell(before, 0.0)
    for _ in range(23):
        controller.tell(controller.ask(), -1.0)
    assert controller.propose(given).log_prob > before.log_prob + 0.5
