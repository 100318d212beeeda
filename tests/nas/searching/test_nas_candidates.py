"""Who is confirmed: candidates of several stages, what the search started from, and how many there is time for."""

import pytest

from nas.run.rows import Contender, Outcome
from nas.run.store import RunStore
from nas.searching.confirming import Size, affordable, candidates, chosen
from search_spaces import SPACES


@pytest.fixture
def decoders(tmp_path, monkeypatch):
    """A store of a search of FPN and head whose rewards are of different measures."""
    store = RunStore(tmp_path / "trials.db", create=True)
    whole = SPACES.get("fcos_decoder")
    for position, space in enumerate(whole.stages):
        store.add_stage(space.name, position, 3)
        for number in range(3):
            tokens = [number] + [0] * (len(space) - 1)
            architecture = space.architecture(tokens)
            trial = store.record_proposal(space.name, architecture.named, architecture.key, number, 0.0, {})
            outcome = Outcome("stopped" if number == 0 else "done", number - 10.0 * position, seconds=10.0)
            store.record_outcome(trial, space.name, outcome, {})
    yield whole, store
    store.close()


def test_ranks_of_stages_are_interleaved_the_first_stage_s_first_and_stopped_trials_are_none(decoders):
    whole, store = decoders
    found = list(candidates(whole, store, lambda architecture: True))
    assert [(one.space, one.trials) for one in found] == [
        ("fcos_fpn", (3,)),
        ("fcos_decoder", (3, 6)),
        ("fcos_fpn", (2,)),
        ("fcos_decoder", (3, 5)),
    ]
    (fpn, head) = (store.trials(space.name)[2] for space in whole.stages)
    assert found[1].choices == {**fpn.choices, **head.choices}
    only = candidates(whole, store, lambda architecture: architecture.space.name == "fcos_fpn")
    assert [one.trials for one in only] == [(3,), (2,)]


@pytest.mark.parametrize(
    ("starts", "count", "expected"),
    [
        ("", 3, "abc"),
        ("d", 3, "adb"),
        ("de", 3, "adb"),
        ("b", 3, "abc"),
        ("c", 3, "acb"),
        ("ad", 3, "abc"),
        ("d", 1, "a"),
    ],
)
def test_what_the_search_started_from_is_confirmed_with_the_best(starts, count, expected):
    found = chosen((Contender("", key) for key in "abcde"), count, set(starts))
    assert "".join(one.key for one in found) == expected


def test_confirmation_keeps_to_a_fifth_of_the_search_s_time(decoders):
    _, store = decoders
    store._db.execute("UPDATE trials SET seconds = 400 WHERE status = 'stopped'")
    assert affordable(store, Size(20, 0, 1), []) == Size(16, 0, 1)  # 168 s; a candidate takes 10 s
    assert affordable(store, Size(20, 0, 4), []) == Size(4, 0, 4)  # 42 s a seed
    assert affordable(store, Size(3, 0, 4), []) == Size(3, 0, 4)
    assert affordable(store, Size(20, 1, 4), [Contender("one")]) == Size(3, 1, 4)


def test_where_a_fifth_is_too_little_references_go_before_the_third_candidate_and_seeds_last(decoders):
    _, store = decoders
    pair = [Contender("one"), Contender("other")]
    store.record_plan("reference", [(one, 0) for one in pair])
    store.record_score(1, Outcome("done", 0.5, seconds=10.0))
    store.record_score(2, Outcome("done", 0.5, seconds=30.0))

    def size(spent):
        store._db.execute("UPDATE trials SET seconds = ? WHERE status = 'stopped'", (spent / 2 - 20,))
        return affordable(store, Size(5, 2, 3), pair)

    assert size(5 * 3 * (5 * 10 + 40)) == Size(5, 2, 3)
    assert size(5 * 3 * (3 * 10 + 40)) == Size(3, 2, 3)
    assert size(5 * 3 * (3 * 10 + 39)) == size(5 * 3 * (3 * 10 + 10)) == Size(3, 1, 3)
    assert size(5 * 3 * (3 * 10 + 9)) == size(5 * 3 * (2 * 10 + 10)) == Size(2, 1, 3)
    assert size(5 * 3 * (2 * 10 + 9)) == size(1) == Size(2, 1, 2)  # the least


@pytest.mark.parametrize("wanted", [Size(1, 0, 1), Size(0, 2, 1), Size(1, 1, 5)])
def test_no_more_is_confirmed_than_there_is(decoders, wanted):
    _, store = decoders
    size = affordable(store, wanted, [Contender("one"), Contender("other")][: wanted.references])
    assert size.candidates <= wanted.candidates
    assert size.references <= wanted.references
    assert size.seeds <= wanted.seeds
