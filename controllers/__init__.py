"""Who proposes: LSTM-PPO, evolution, random, Optuna's samplers; the Gymnasium environment."""

import inspect
from typing import Any

from controllers.base import Controller, Proposal
from controllers.checks import check_whole
from search_spaces import InputError, Registry, SearchSpace

__all__ = ["CONTROLLERS", "Controller", "Proposal", "make", "names", "register"]

CONTROLLERS = Registry(
    "controller",
    {
        "lstm-ppo": "controllers.lstm_ppo:LstmPpo",
        "evolution": "controllers.evolution:Evolution",
        "random": "controllers.random_search:RandomSearch",
        "optuna": "controllers.optuna_search:OptunaSearch",
    },
)
names = CONTROLLERS.names


def register(name: str, cls: type) -> type:
    """Makes a controller class of your own known by ``name``; refuses a name that is taken.

    Args:
        name: what `make` and the command line call it.
        cls: called as ``cls(space, seed=seed, **options)``; its keyword-only parameters are its options.
    """
    CONTROLLERS.register(name, cls)
    return cls


def make(name: str, space: SearchSpace, seed: int = 0, **options: Any) -> Controller:
    """The controller called ``name`` for ``space``.

    Args:
        name: as registered, ``"optuna:NAME"`` for one of Optuna's samplers, or ``"module:Class"``.
        space: what to propose architectures of; it needs at least one choice.
        seed: determines all random draws, a whole number from 0; the global random states are neither read nor written.
        options: the controller's own, its constructor's keyword-only parameters.

    Raises:
        InputError: unknown name or option, or a value that the option does not take.
    """
    implied = {"sampler": name.removeprefix("optuna:")} if name.startswith("optuna:") else {}
    cls = CONTROLLERS.get("optuna" if implied else name)
    if not isinstance(cls, type):
        raise InputError(f"{name!r} is a {type(cls).__name__}, not a controller class")
    parameters = inspect.signature(cls).parameters.values()
    known = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            has = f"its options are {', '.join(known)}" if known else "it has none"
            raise InputError(f"controller {name!r} has no option {option!r}; {has}")
    if not len(space):
        raise InputError(f"search space {space.name!r} has no choices; a controller needs at least one")
    controller: Controller = cls(space, seed=check_whole("seed", seed, 0), **{**options, **implied})
    return controller
