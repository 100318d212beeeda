"""Weights of backbones: as users give them, and fitted to a part of a larger network."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from proxy_tasks.weights import read_state_dict
from search_spaces import InputError

__all__ = ["given_state_dict", "load_part"]


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
