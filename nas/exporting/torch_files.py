"""An architecture as a state dict and a short Python file that builds the module and loads it."""

import pprint
from pathlib import Path

from nas.exporting.networks import Exported
from proxy_tasks.weights import serialised
from search_spaces.files import write_whole

__all__ = ["write_torch"]

_MODULE = '''"""{name}, an architecture of the search space {space}, as written by nas-export.

The weights, in {name}.safetensors beside this file, are {origin}.
"""

from pathlib import Path
from typing import Any

import nas
import search_spaces
{imports}from proxy_tasks.weights import load_weights

CHOICES = {choices}
OPTIONS = {options}


def load() -> Any:
    """The network with its weights, in evaluation mode on the CPU."""
    architecture = search_spaces.get({space!r}).from_named(CHOICES)
    network = nas.build(architecture, **OPTIONS)
    load_weights(network, Path(__file__).with_suffix(".safetensors"))
    return network.eval()


if __name__ == "__main__":
    print(load())
'''


def write_torch(exported: Exported, folder: Path) -> list[Path]:
    """Writes ``NAME.safetensors`` and ``NAME.py``, whose ``load()`` gives the module.

    Raises:
        OSError: the folder cannot be written to.
    """
    weights, module = (folder / f"{exported.name}.{ending}" for ending in ("safetensors", "py"))
    text = _MODULE.format(
        name=exported.name,
        space=exported.space,
        origin=exported.origin,
        imports="".join(f"import {module}  # registers the parts of one's own\n" for module in exported.modules),
        choices=pprint.pformat(exported.architecture.named, sort_dicts=False, width=100),
        options=pprint.pformat(exported.options, sort_dicts=False, width=100),
    )
    write_whole(weights, serialised(exported.network))
    write_whole(module, text)
    return [weights, module]
