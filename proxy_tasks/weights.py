"""Weights: read without running anything in their file, hashed, loaded whole or not at all, trained once and cached."""

import hashlib
import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from proxy_tasks.arrays import ArrayWriter
from proxy_tasks.cache import open_cache
from search_spaces import InputError

__all__ = ["load_weights", "read_state_dict", "serialised", "state_hash", "trained_once"]

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


def state_hash(module: nn.Module) -> str:
    """16 hex digits of a module's weights and buffers, names included."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def serialised(module: nn.Module) -> bytes:
    """The state dict in the safetensors format."""
    return safetensors.torch.save({name: value.cpu().contiguous() for name, value in module.state_dict().items()})


def trained_once(
    root: Path, kind: str, key: str, module: nn.Module, train: Callable[[], None], kept: Path | None = None
) -> None:
    """Gives ``module`` the weights cached under ``key``; where there are none, ``train()`` makes them.

    Args:
        root: the cache directory.
        kind: what is stored (``"backbones"``).
        key: the cache's key, a hash of all that the weights depend on.
        module: in its initial state, on whatever device.
        train: trains it in place.
        kept: a file that has these weights; then the cache is not asked.
    """
    if kept is not None:
        load_weights(module, kept)
        return

    def build(place: Path) -> None:
        train()
        state = serialised(module)
        with ArrayWriter(place, "safetensors", (), "uint8") as writer:
            writer.append(np.frombuffer(state, np.uint8))

    cache = open_cache(root, kind, key, build)
    module.load_state_dict(safetensors.torch.load(cache["safetensors"].tobytes()))


def load_weights(network: nn.Module, path: str | Path, optional: str | None = None) -> None:
    """Loads a whole network's weights from a file (`read_state_dict`), which may hold others too.

    Args:
        network: changed in place.
        path: the weights file.
        optional: what begins with this keeps its own weights where the file has none: heads for training alone.

    Raises:
        InputError: a tensor is missing or has another shape.
    """
    state: Mapping[str, Tensor] = read_state_dict(path)
    own = network.state_dict()
    for name, value in own.items():
        if name not in state:
            # a count that nothing here reads; frozen batch norm has none
            if name.endswith("num_batches_tracked") or (optional is not None and name.startswith(optional)):
                continue
            raise InputError(f"{path}: the weights of {name!r} are missing; they are not of this network")
        if state[name].shape != value.shape:
            found, needed = tuple(state[name].shape), tuple(value.shape)
            raise InputError(f"{path}: {name!r} has shape {found}, this network needs {needed}")
    network.load_state_dict({name: state.get(name, value) for name, value in own.items()})
