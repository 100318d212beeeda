"""Optuna's samplers behind the adapter: the sampler's own proposals, restored from what was saved, part by part."""

import math
import sys

import numpy as np
import optuna
import pytest
from test_controller_changes import Saved
from test_controller_contract import make, reward_of, small_space

import controllers
from controllers.optuna_search import SAMPLERS, _optuna
from search_spaces import Choice, InputError, SearchSpace

LENGTHS = {"tpe": 40, "gp": 20, "cmaes": 60, "nsgaii": 130, "nsgaiii": 130, "qmc": 30, "random": 20}
"""Trials until each has left its random beginning behind, several times where it has generations."""


def numbers(choices: int = 6, options: int = 5) -> SearchSpace:
    names = tuple("abcdefgh"[:options])
    return SearchSpace("numbers", tuple(Choice(f"c{i}", "op", names) for i in range(choices)))


def through(controller, turns, save=lambda: None):
    """The proposals of so many turns; each asks one, and tells one of the four that are open; every ninth fails."""
    asked, waiting = [], []
    for turn in range(turns):
        waiting.append(controller.ask())
        asked.append(waiting[-1])
        save()
        if len(waiting) == 4:
            proposal = waiting.pop(turn * 7 % 4)
            controller.tell(proposal, None if turn % 9 == 0 else reward_of(proposal))
            save()
    return asked, waiting


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_restored_from_its_parts_it_goes_on_as_if_nothing_had_happened(sampler):
    saved = Saved(make(f"optuna:{sampler}"))
    _, waiting = through(saved.controller, LENGTHS[sampler], saved.save)
    other = make(f"optuna:{sampler}", seed=9)
    other.load_state_dict(saved.load())  # torch.load with weights_only: nothing pickled
    for controller in (saved.controller, other):
        for proposal in waiting:
            controller.tell(proposal, reward_of(proposal))
    assert through(other, 12)[0] == through(saved.controller, 12)[0]


@pytest.mark.parametrize("sampler", ["tpe", "nsgaii", "cmaes"])
def test_proposes_what_the_sampler_does_in_a_study_of_its_own(sampler):
    controller, space = make(f"optuna:{sampler}", seed=5), small_space()
    study = optuna.create_study(direction="maximize")
    for number in range(30):
        seed = int(np.random.SeedSequence([5, 1 + number]).generate_state(1)[0])
        study.sampler = _sampler(sampler)(seed=seed)
        trial = study.ask()
        tokens = []
        for choice in space.choices:
            if sampler == "cmaes":
                tokens.append(trial.suggest_int(choice.name, 0, len(choice.options) - 1))
            else:
                tokens.append(trial.suggest_categorical(choice.name, range(len(choice.options))))
        proposal = controller.ask()
        assert proposal.tokens == tuple(tokens)
        controller.tell(proposal, reward_of(proposal))
        study.tell(trial, reward_of(proposal))


def _sampler(name):
    samplers = optuna.samplers
    return {"tpe": samplers.TPESampler, "nsgaii": samplers.NSGAIISampler, "cmaes": samplers.CmaEsSampler}[name]


@pytest.mark.parametrize("sampler", ["tpe", "gp", "cmaes"])
def test_learns(sampler):
    means = {}
    for name in (f"optuna:{sampler}", "random"):
        controller, sums = controllers.make(name, numbers()), []
        for _ in range(30 if sampler == "gp" else 80):
            proposal = controller.ask()
            sums.append(sum(proposal.tokens))
            controller.tell(proposal, float(sums[-1]))
        means[name] = np.mean(sums[-10:])
    assert means[f"optuna:{sampler}"] > means["random"] + 4  # of 12, the most is 24


def test_failed_trials_teach_nothing():
    failing, silent = make("optuna:tpe"), make("optuna:tpe")
    for _ in range(20):
        proposal = failing.ask()
        failing.tell(proposal, math.nan)
        assert proposal == silent.ask()  # told nothing at all


def test_what_is_being_evaluated_is_left_alone():
    assert SAMPLERS["tpe"][1] == {"constant_liar": True}


def test_cma_es_keeps_the_states_that_may_be_gone_on_from_and_no_more():
    saved = Saved(make("optuna:cmaes"))
    through(saved.controller, 100, saved.save)
    kept = [name for name in saved.parts if name.startswith("optimiser.")]
    assert 1 <= len(kept) <= 5  # the latest, and those of open trials
    assert not any("optimizer" in name for name in saved.load()["trial.50"]["attributes"])


def test_a_genetic_sampler_breeds_from_what_it_was_given():
    controller = make("optuna:nsgaii")
    controller.tell(controller.propose((2,) * 6), 100.0)
    for _ in range(49):  # the rest of the first population
        controller.tell(controller.ask(), 0.0)
    controller.ask()
    state = controller.state_dict()
    assert state["trial.50"]["attributes"] == {"NSGAIISampler:generation": 1}
    assert 0 in state["study.NSGAIISampler:parent:1"]


def test_cma_es_starts_from_what_it_was_given():
    space, gaps = numbers(8, 8), {}
    for given in (True, False):
        controller = controllers.make("optuna:cmaes", space)
        controller.tell(controller.propose((7,) * 8) if given else controller.ask(), 100.0)
        drawn = [controller.ask().tokens for _ in range(20)]
        gaps[given] = np.mean([7 - token for tokens in drawn for token in tokens])
    assert gaps[True] < 1 < 3 < gaps[False]


def test_a_proposal_from_before_a_restart_is_learnt_from():
    controller, before = make("optuna:tpe"), make("optuna:tpe", seed=1)
    proposals = [before.ask() for _ in range(12)]
    controller.ask()
    for proposal in proposals:
        controller.tell(proposal, reward_of(proposal))
    other = make("optuna:tpe", seed=2)
    other.load_state_dict(controller.state_dict())
    assert [other.ask() for _ in range(5)] == [controller.ask() for _ in range(5)]
    values = [trial["value"] for name, trial in controller.state_dict().items() if name.startswith("trial.")]
    assert [value for value in values if value is not None] == [reward_of(proposal) for proposal in proposals]


def test_says_nothing(capfd, recwarn):
    for sampler in SAMPLERS:
        controller = make(f"optuna:{sampler}")
        controller.tell(controller.propose((0,) * 6), -1.0)
        for _ in range(12):
            controller.tell(controller.ask(), -2.0)
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []


def test_an_unknown_sampler_and_a_missing_package_are_one_sentence(monkeypatch):
    with pytest.raises(InputError, match=r"^there is no sampler 'optuna:tpo'; known: tpe, gp, cmaes, nsgaii, "):
        controllers.make("optuna:tpo", small_space())
    with pytest.raises(InputError, match=r"^there is no sampler 'optuna:'; known: tpe, "):
        controllers.make("optuna:", small_space())
    monkeypatch.setitem(sys.modules, "optuna", None)
    _optuna.cache_clear()
    with pytest.raises(InputError, match=r'need the package optuna; .* pip install "dense-nas\[optuna\]"$'):
        controllers.make("optuna:tpe", small_space())
