import numpy as np

import controllers
from controllers.novelty import SeenKeys
from search_spaces import Choice, SearchSpace


def wide_space(length: int = 6, options: int = 5) -> SearchSpace:
    return SearchSpace("wide", tuple(Choice(f"c{i}", "op", tuple("abcdefgh"[:options])) for i in range(length)))


def distance(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    return int(np.not_equal(one, other).sum())


def test_a_child_differs_in_one_choice_from_a_living_member():
    controller, asked = controllers.make("evolution", wide_space(), population=5, tournament=2), []
    for turn in range(60):
        proposal = controller.ask()
        if turn >= 5:
            assert min(distance(proposal.tokens, member) for member in asked[-5:]) == 1
        asked.append(proposal.tokens)
        controller.tell(proposal, float(turn % 7))


def test_the_tournaments_best_is_the_parent():
    # So many are drawn, with replacement, that the best of five is among them.
    controller, told = controllers.make("evolution", wide_space(), population=5, tournament=200), []
    for turn in range(40):
        proposal = controller.ask()
        if turn >= 5:
            best = max(told[-5:], key=lambda member: member[1])
            assert distance(proposal.tokens, best[0]) == 1
        told.append((proposal.tokens, float((turn * 7) % 11)))
        controller.tell(*(proposal, told[-1][1]))


def test_the_oldest_dies_even_if_it_is_the_best():
    controller = controllers.make("evolution", wide_space(), population=3, tournament=50)
    for reward in (100.0, 1.0, 2.0, 3.0):
        controller.tell(controller.ask(), reward)
    assert controller.diagnostics() == {"population": 3.0, "population_best": 3.0, "population_median": 2.0}


def test_draws_uniformly_while_nothing_is_told():
    controller = controllers.make("evolution", wide_space(12), population=4)
    asked = [controller.ask().tokens for _ in range(30)]
    gaps = [distance(a, b) for i, a in enumerate(asked) for b in asked[:i]]
    assert min(gaps) > 1


def test_first_unseen_draws_no_more_than_needed():
    space = wide_space(1, 3)
    draws = (space.architecture((token,)) for token in (0, 0, 1, 2))
    seen = SeenKeys()
    assert [seen.first_unseen(draws).tokens for _ in range(2)] == [(0,), (1,)]
    assert next(draws).tokens == (2,)
    assert seen.first_unseen(iter([space.architecture((1,))])).tokens == (1,)  # exhausted: a duplicate
    assert sum(len(keys) for keys in seen.parts.values()) == 2
