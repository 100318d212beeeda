"""Weights of backbones: read without running anything in their file, fitted to a part of a larger network, hashed."""

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from search_spaces import InputError

__all__ = ["given_state_dict", "load_part", "read_state_dict", "state_hash"]

WRAPPERS = ("state_dict", "model")  # under which checkpoints keep a state dict among other things
PARALLEL = "module."  # with which the names in it begin where the network was trained in DataParallel


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """Reads a state dict from ``.safetensors``, or from a torch file with ``weights_only=True``: nothing in it is run.

    A torch file may hold it as a checkpoint's ``model`` or ``state_dict``; names lose the ``module.`` of DataParallel.

    Raises:
        InputError: no such file, not a state dict, or a file that would have to be unpickled to be read.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"there is no weights file {path}")
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # torch's advice to file an issue
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"the weights file {path} holds more than tensors and is not loaded, since unpickling it could run code; "
            "save its state_dict() instead"
        ) from error
    except Exception as error:  # torch's reader raises nearly anything on a damaged file
        raise InputError(f"the weights file {path} cannot be read: {type(error).__name__}: {error}") from error
    while isinstance(state, dict) and (inner := next((key for key in WRAPPERS if key in state), None)):
        state = state[inner]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise InputError(f"the weights file {path} holds no state dict (names mapped to tensors)")
    if all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): value for name, value in state.items()}
    return state


def given_state_dict(weights: str) -> dict[str, Tensor]:
    """As `read_state_dict`, of what is given as a backbone's weights; raises with what else may be given."""
    if not Path(weights).is_file():
        raise InputError(f"there is no weights file {weights}; give default, none or a .safetensors, .pt or .pth file")
    return read_state_dict(weights)


def load_part(backbone: nn.Module, state: Mapping[str, Tensor], place: str) -> None:
    """Loads a backbone's own state dict, or that of a network that has it as a part: a classifier, a detector.

    The part is where most of the backbone's names are found behind one prefix (``features.``, ``backbone.body.``).
    """
    own = backbone.state_dict()
    needed = [key for key in own if not key.endswith("num_batches_tracked")]
    prefixes = {"": 0} | {key.removesuffix(needed[0]): 0 for key in state if key.endswith(needed[0])}
    prefix = min(prefixes, key=lambda prefix: (sum(prefix + key not in state for key in needed), len(prefix)))
    state = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    missing = [key for key in needed if key not in state]
    if missing:
        raise InputError(
            f"{place}: {len(missing)} of the backbone's {len(own)} tensors are missing, e.g. {missing[0]!r}"
        )
    for key, value in own.items():
        if key in state and state[key].shape != value.shape:
            raise InputError(f"{place}: {key!r} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}")
    backbone.load_state_dict({key: state.get(key, value) for key, value in own.items()})


def state_hash(module: nn.Module) -> str:
    """16 hex digits of a module's weights and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
