"""A controller's state, saved part by part: `changes`, by the same suite for every controller."""

import io
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_controller_contract import NAMES, leaves, make, reward_of, through_a_file

import controllers
from controllers.base import PartwiseController, changed_parts, restore
from controllers.lstm_ppo import _SNAPSHOT_ROLLOUTS
from search_spaces import Choice, SearchSpace

STEPS = ("ask", "ask", "tell", "tell", "fail", "save", "reload")
DATA = Path(__file__).parent / "data"


@pytest.fixture
def narrow(monkeypatch):
    """A policy of 4 hidden units, which the stored files of the former format were written with."""
    monkeypatch.setattr("controllers.policy.HIDDEN", 4)


class Saved:
    """What a store holds after it has saved every change of a controller."""

    def __init__(self, controller):
        self.controller, self.parts, self.bytes = controller, {}, 0

    def save(self):
        for name, part in changed_parts(self.controller).items():
            if part is None:
                del self.parts[name]
            else:
                buffer = io.BytesIO()
                torch.save(part, buffer)
                self.parts[name] = buffer.getvalue()
                self.bytes += len(self.parts[name])

    def load(self):
        return {name: torch.load(io.BytesIO(part), weights_only=True) for name, part in self.parts.items()}


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(part, other[name]) for name, part in one.items())
    pairs = zip(leaves(one), leaves(other), strict=True)
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def wide_space() -> SearchSpace:
    """35 choices, as many as the largest space has."""
    options = tuple("abcdefgh")
    return SearchSpace("wide", tuple(Choice(f"c{i}", f"k{i % 5}", options[: 2 + i % 7]) for i in range(35)))


@pytest.mark.parametrize("name", NAMES)
class TestChanges:
    @settings(deadline=None, max_examples=12, derandomize=True)
    @given(
        st.lists(st.tuples(st.sampled_from(["ask", "tell", "fail", "save", "reload"]), st.integers(0, 7)), max_size=60)
    )
    def test_the_parts_saved_are_the_state_at_any_step(self, name, steps):
        saved, waiting = Saved(make(name)), []
        for step, which in steps:
            if step == "reload":
                saved.save()
                before, saved.controller = saved.controller, make(name, seed=9)
                restore(saved.controller, saved.load())
                assert same(saved.controller.state_dict(), before.state_dict())
            elif step == "save":
                saved.save()
            elif waiting and (step != "ask" or len(waiting) == 8):
                proposal = waiting.pop(which % len(waiting))
                saved.controller.tell(proposal, None if step == "fail" else reward_of(proposal))
            else:
                waiting.append(saved.controller.ask())
        saved.save()
        assert same(saved.load(), saved.controller.state_dict())
        other = make(name, seed=9)
        restore(other, saved.load())
        for proposal in waiting:
            other.tell(proposal, reward_of(proposal))
            saved.controller.tell(proposal, reward_of(proposal))
        assert [other.ask() for _ in range(4)] == [saved.controller.ask() for _ in range(4)]
        assert other.diagnostics() == saved.controller.diagnostics()

    def test_restores_across_snapshots(self, name, narrow):
        saved, waiting = Saved(make(name)), []
        for turn in range(_SNAPSHOT_ROLLOUTS + 30):
            waiting.append(saved.controller.ask())
            saved.save()
            if len(waiting) == 8:
                proposal = waiting.pop((turn * 5) % 8)
                saved.controller.tell(proposal, reward_of(proposal))
                saved.save()
        other = make(name, seed=9)
        restore(other, saved.load())
        assert same(other.state_dict(), saved.controller.state_dict())
        assert [other.ask() for _ in range(9)] == [saved.controller.ask() for _ in range(9)]

    def test_a_trial_writes_little(self, name):
        quick = {"epochs": 1} if name == "lstm-ppo" else {}
        saved, waiting = Saved(controllers.make(name, wide_space(), **quick)), []
        for _ in range(300):
            waiting.append(saved.controller.ask())
            saved.save()
            if len(waiting) == 16:
                proposal = waiting.pop(0)
                saved.controller.tell(proposal, reward_of(proposal))
                saved.save()
        assert saved.bytes / 300 <= 50_000
        if name in ("evolution", "random"):  # the others keep rollouts or trials
            assert sum(len(part) for part in saved.parts.values()) <= 50_000

    def test_says_nothing_twice_and_all_after_a_restart(self, name):
        controller = make(name)
        assert isinstance(controller, PartwiseController)
        assert changed_parts(controller).keys() == controller.state_dict().keys()
        assert changed_parts(controller) == {}
        controller.ask()
        changed = changed_parts(controller)
        assert 0 < len(changed) < len(controller.state_dict())
        controller.load_state_dict(controller.state_dict() | {"of a former version": 1})
        changed = changed_parts(controller)
        assert changed.pop("of a former version") is None
        assert same(changed, controller.state_dict())

    def test_loads_a_state_of_the_former_format(self, name, narrow):
        if not (DATA / f"{name}_whole.pt").exists():
            assert name.startswith("optuna:")  # which has had one format only
            return
        former = torch.load(DATA / f"{name}_whole.pt", weights_only=True)
        saved = Saved(make(name))
        restore(saved.controller, former["state"])
        saved.parts = dict.fromkeys(former["state"])
        saved.save()
        assert same(through_a_file(saved.load()), saved.controller.state_dict())
        other = make(name)
        restore(other, saved.load())
        for controller in (saved.controller, other):
            assert [list(controller.ask().tokens) for _ in range(5)] == former["next"]


class Whole:
    """A controller from elsewhere: it has no `changes`, and None among its entries."""

    def __init__(self, space):
        self.space, self.best = space, None

    def ask(self):
        raise NotImplementedError

    def tell(self, proposal, reward):
        self.best = reward

    def diagnostics(self):
        return {}

    def state_dict(self):
        return {"best": self.best}

    def load_state_dict(self, state):
        self.best = state["best"]


def test_a_controller_without_changes_is_saved_whole():
    for best in (None, 3.0):
        saved, other = Saved(Whole(wide_space())), Whole(wide_space())
        saved.save()
        saved.controller.tell(None, best)
        saved.save()
        other.best = 7.0
        restore(other, saved.load())
        assert other.best == best
        restore(other, {"best": 5.0})  # as stored before there were parts
        assert other.best == 5.0
