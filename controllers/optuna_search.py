"""Optuna's samplers as controllers: one adapter of the contract, which asks and tells a study held in memory.

A sampler keeps its own state partly in the study (values and attributes of the trials) and partly in itself (random
states, caches). Here each proposal comes from a fresh sampler, seeded by the controller's seed and the proposal's
number, as though each came from another worker of a distributed study, for which Optuna's samplers are made. So the
study is all there is to save, as tokens, numbers and attributes; nothing is pickled.

Source: Akiba et al., "Optuna: A Next-generation Hyperparameter Optimization Framework", KDD 2019.
"""

import copy
import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from controllers.base import Proposal
from controllers.checks import check_state, finite
from controllers.cmaes_state import PREFIX, plain_optimiser, with_optimiser
from controllers.parts import PartLog
from search_spaces import InputError, SearchSpace

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

__all__ = ["SAMPLERS", "OptunaSearch"]

SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {
    "tpe": ("TPESampler", {"constant_liar": True}),  # what is being evaluated counts as bad, so that it is left alone
    "gp": ("GPSampler", {"warn_independent_sampling": False}),
    "cmaes": ("CmaEsSampler", {"warn_independent_sampling": False}),
    "nsgaii": ("NSGAIISampler", {}),
    "nsgaiii": ("NSGAIIISampler", {}),
    "qmc": ("QMCSampler", {"scramble": True, "warn_independent_sampling": False}),
    "random": ("RandomSampler", {}),
}
"""By name: Optuna's class, and what of its constructor is not left at Optuna's default."""

_BOUND = 1e100  # rewards beyond are told as this: the square of a larger one is infinite
_PASSING = "relative_params"  # attributes that only matter before a trial has its parameters


@functools.cache
def _optuna() -> Any:
    """The package, told to be silent; raises `InputError` where it is missing."""
    try:
        import cmaes  # noqa: F401
        import optuna
    except ImportError as error:
        raise InputError(
            f"the controllers optuna:… need the package {error.name}; install the extra: pip install"
            ' "dense-nas[optuna]"'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class OptunaSearch:
    """Proposes what one of Optuna's samplers suggests, one parameter a choice.

    The tokens of a choice are a categorical parameter, except for CMA-ES, which knows numbers only: there a choice is a
    whole number, and options that stand beside each other in its list are taken for similar, which they need not be. A
    failed trial is a failed trial of Optuna's, which no sampler learns from. Two proposals may be the same network.

    Args:
        space: what to propose architectures of.
        seed: determines all random draws.
        sampler: a name of `SAMPLERS`.

    Raises:
        InputError: no such sampler, or Optuna is not installed.
    """

    def __init__(self, space: SearchSpace, seed: int = 0, *, sampler: str = "tpe"):
        if sampler not in SAMPLERS:
            raise InputError(f"there is no sampler 'optuna:{sampler}'; known: {', '.join(SAMPLERS)}")
        self._optuna = _optuna()
        self.space, self.sampler, self._seed = space, sampler, seed
        self._log = PartLog()
        self._clear()

    def _clear(self) -> None:
        self._storage = self._optuna.storages.InMemoryStorage()
        self._study = self._optuna.create_study(storage=self._storage, direction="maximize")
        self._study_id = self._storage.get_study_id_from_name(self._study.study_name)
        self._asked = 0
        self._open: dict[int, int] = {}  # the trial of each proposal not yet told, by its id
        self._trials: dict[str, Any] = {}  # each trial as it is saved
        self._optimisers: dict[int, Any] = {}  # CMA-ES's states that a later trial may start from, by trial

    @functools.cached_property
    def _distributions(self) -> "dict[str, BaseDistribution]":
        kinds, sizes = self._optuna.distributions, {c.name: len(c.options) for c in self.space.choices}
        if self.sampler == "cmaes":
            return {name: kinds.IntDistribution(0, size - 1) for name, size in sizes.items()}
        return {name: kinds.CategoricalDistribution(range(size)) for name, size in sizes.items()}

    def _fresh_sampler(self) -> "BaseSampler":
        name, options = SAMPLERS[self.sampler]
        number = 0 if self.sampler == "qmc" else 1 + self._asked  # one sequence: its scrambling is drawn once
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        if self.sampler == "cmaes" and (best := self._best_given()):
            options = {**options, "source_trials": [best] * 10}  # the best tenth of which makes the first distribution
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", self._optuna.exceptions.ExperimentalWarning)
            sampler: BaseSampler = getattr(self._optuna.samplers, name)(seed=seed, **options)
        return sampler

    def _best_given(self) -> "FrozenTrial | None":
        trials = self._study.get_trials(deepcopy=False, states=[self._optuna.trial.TrialState.COMPLETE])
        given = [trial for trial in trials if "fixed_params" in trial.system_attrs]
        return max(given, key=lambda trial: trial.value, default=None)

    def ask(self) -> Proposal:
        """What the sampler suggests."""
        before = self._study_attributes
        self._study.sampler = self._fresh_sampler()
        trial = self._study.ask(self._distributions)
        tokens = self._tokens(trial.params)
        self._save(trial.number)
        self._open[self._asked] = trial.number
        self._asked += 1
        changed = [name for name, value in self._study_attributes.items() if before.get(name) != value]
        self._log.mark("asked", "open", *(f"study.{name}" for name in changed))
        return Proposal(self._asked - 1, tokens)

    def propose(self, tokens: Sequence[int]) -> Proposal:
        """See `StartableController`: a trial enqueued in the study.

        It is a member of a genetic sampler's population; around the best such one CMA-ES starts (Nomura et al., "Warm
        Starting CMA-ES for Hyperparameter Optimization", AAAI 2021).
        """
        self._study.enqueue_trial(self._params(self.space.validate(tokens)))
        proposal = self.ask()
        sampler, number = self._study.sampler, self._open[proposal.id]
        if isinstance(sampler, self._optuna.samplers.BaseGASampler):
            sampler.get_trial_generation(self._study, self._frozen(number))
            self._save(number)
        return proposal

    def tell(self, proposal: Proposal, reward: float | None) -> None:
        """Ends the proposal's trial; one that this study does not have is added to it."""
        tokens, reward = self.space.validate(proposal.tokens), finite(reward)
        number = self._open.get(proposal.id)
        if number is None or self._trials[f"trial.{number}"]["tokens"] != list(tokens):
            number = self._add({"state": "RUNNING", "tokens": list(tokens), "value": None, "attributes": {}})
        else:
            del self._open[proposal.id]
        value = None if reward is None else min(max(reward, -_BOUND), _BOUND)
        state = self._optuna.trial.TrialState
        self._study.tell(number, value, state.FAIL if value is None else state.COMPLETE)
        self._save(number)
        self._log.mark("open")

    def _params(self, tokens: Sequence[int]) -> dict[str, int]:
        return {choice.name: token for choice, token in zip(self.space.choices, tokens, strict=True)}

    def _tokens(self, params: dict[str, Any]) -> tuple[int, ...]:
        return tuple(int(params[choice.name]) for choice in self.space.choices)

    def _frozen(self, number: int) -> "FrozenTrial":
        trial: FrozenTrial = self._study.get_trials(deepcopy=False)[number]
        return trial

    def _save(self, number: int) -> None:
        """Notes a trial as it stands for the state."""
        trial = self._frozen(number)
        self._trials[f"trial.{number}"] = {
            "state": trial.state.name,
            "tokens": list(self._tokens(trial.params)),
            "value": trial.value,
            "attributes": {k: v for k, v in trial.system_attrs.items() if _PASSING not in k and PREFIX not in k},
        }
        self._log.mark(f"trial.{number}")
        if plain := plain_optimiser(trial.system_attrs):
            self._optimisers[number] = plain
            finished = [i for i in self._optimisers if self._trials[f"trial.{i}"]["state"] == "COMPLETE"]
            for old in finished[:-1]:  # the sampler goes on from the latest
                del self._optimisers[old]

    def _add(self, plain: dict[str, Any]) -> int:
        """Adds a trial as `_save` notes it to the study; returns its number."""
        trial = self._optuna.trial.create_trial(
            state=self._optuna.trial.TrialState[plain["state"]],
            value=plain["value"],
            params=self._params(plain["tokens"]),
            distributions=self._distributions,
            system_attrs=dict(plain["attributes"]),
        )
        self._study.add_trial(trial)
        return len(self._study.get_trials(deepcopy=False)) - 1

    def diagnostics(self) -> dict[str, float]:
        """Empty: samplers report no figures."""
        return {}

    def _parts(self) -> dict[str, Any]:
        return {
            "controller": f"optuna:{self.sampler}",
            "space": self.space.name,
            "generator": self._seed,
            "asked": self._asked,
            "open": {str(id): number for id, number in self._open.items()},
            **{f"study.{name}": value for name, value in self._study_attributes.items()},
            **{f"optimiser.{number}": optimiser for number, optimiser in self._optimisers.items()},
            **self._trials,
        }

    @property
    def _study_attributes(self) -> dict[str, Any]:
        return dict(self._storage.get_study_system_attrs(self._study_id))

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything; see `Controller.state_dict`."""
        return copy.deepcopy(self._parts())

    def changes(self) -> dict[str, Any]:
        """The parts that have changed; see `PartwiseController.changes`."""
        return self._log.take(self._parts())

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores `state_dict`; raises `InputError` where it is of another sampler or space."""
        check_state(state, f"optuna:{self.sampler}", self.space)
        self._clear()
        self._seed, self._asked = state["generator"], state["asked"]
        self._open = {int(id): number for id, number in state["open"].items()}
        self._optimisers = {int(name.partition(".")[2]): state[name] for name in state if name.startswith("optimiser.")}
        for number in range(sum(name.startswith("trial.") for name in state)):
            self._trials[f"trial.{number}"] = plain = copy.deepcopy(state[f"trial.{number}"])
            optimiser = self._optimisers.get(number)
            attributes = with_optimiser(plain["attributes"], optimiser) if optimiser else plain["attributes"]
            self._add({**plain, "attributes": attributes})
        for name in state:
            if name.startswith("study."):
                self._storage.set_study_system_attr(self._study_id, name.partition(".")[2], state[name])
        self._log.restart(state)
