"""Weights: hashed, loaded whole or not at all, and trained once and then read from the cache."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import safetensors.torch
from torch import Tensor, nn

from proxy_tasks.arrays import ArrayWriter
from proxy_tasks.backbones import read_state_dict
from proxy_tasks.cache import open_cache
from search_spaces import InputError

__all__ = ["load_weights", "serialised", "trained_once"]


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
