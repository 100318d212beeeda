"""The state of CMA-ES as plain numbers, in place of the pickle that Optuna keeps among a trial's attributes."""

import pickle
from typing import Any

__all__ = ["PREFIX", "plain_optimiser", "with_optimiser"]

PREFIX = "cma:optimizer"
"""How the names begin of the attributes that hold the pickle, in hexadecimal digits, piece after piece."""


def plain_optimiser(attributes: dict[str, Any]) -> dict[str, Any] | None:
    """The optimiser in a trial's attributes as numbers and float64 tensors by name; None where there is none.

    Only for attributes that this process wrote: they are unpickled.
    """
    import torch

    pieces = [attributes[f"{PREFIX}:{i}"] for i in range(sum(name.startswith(PREFIX) for name in attributes))]
    if not pieces:
        return None
    state = pickle.loads(bytes.fromhex("".join(pieces))).__getstate__()
    return {
        name: torch.tensor(value) if getattr(value, "ndim", 0) else value.item() if hasattr(value, "item") else value
        for name, value in state.items()
    }


def with_optimiser(attributes: dict[str, Any], plain: dict[str, Any]) -> dict[str, Any]:
    """``attributes`` with the optimiser that ``plain`` describes, as Optuna expects it."""
    import cmaes
    import torch

    optimiser = cmaes.CMA.__new__(cmaes.CMA)
    arrays = {k: v.clone().numpy() if isinstance(v, torch.Tensor) else v for k, v in plain.items()}
    optimiser.__setstate__(arrays)
    return {**attributes, f"{PREFIX}:0": pickle.dumps(optimiser).hex()}
