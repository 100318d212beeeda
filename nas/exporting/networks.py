"""The network that is exported: its sizes and its weights, trained where there are trained ones."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.families import family_of
from experiments.job_folder import trained_sizes
from nas.building import build
from proxy_tasks import NETWORKS
from proxy_tasks.task import out_of_memory
from proxy_tasks.weights import load_weights
from search_spaces import Architecture, InputError

__all__ = ["SEED", "Exported", "prepare"]

SEED = 0
"""Of the weights of a network that nobody has trained."""


@dataclass(frozen=True)
class Exported:
    """A network with weights, and how to build it again.

    Args:
        name: the written files' name, without its ending.
        architecture: what it was built from.
        options: the keyword arguments of `nas.build` that build the network.
        network: in evaluation mode, on the CPU.
        origin: where the weights come from, in words.
        space: by what name the registry finds the space; ``MODULE:ATTRIBUTE`` one of the user's own.
        modules: the user's own modules, which register what the space or the network needs.
    """

    name: str
    architecture: Architecture
    options: dict[str, Any]
    network: nn.Module = field(repr=False)
    origin: str
    space: str
    modules: tuple[str, ...]


def prepare(
    name: str,
    architecture: Architecture,
    sizes: dict[str, Any],
    weights: Path | None = None,
    space: str | None = None,
    modules: tuple[str, ...] = (),
) -> Exported:
    """Builds the network of an architecture and gives it its weights.

    Args:
        name: the written files' name, without its ending.
        architecture: an architecture of a space whose networks can be built.
        sizes: backbone, num_classes and width where they are asked for; otherwise those of the full training that made
            the weights, as far as they are known, or the builder's defaults.
        weights: a file; None draws them from `SEED`.
        space: see `Exported`; None is the architecture's own.
        modules: see `Exported`.

    Raises:
        InputError: a space without networks, a size that cannot be, or weights that do not fit.
    """
    task = architecture.space.proxy_task
    if task not in NETWORKS.names():
        raise InputError(
            f"nothing builds the networks of search space {architecture.space.name!r}, so there is none to export"
        )
    options = (trained_sizes(weights, family_of(architecture.space).classifiers) if weights else {}) | sizes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        try:
            network: nn.Module = build(architecture, backbone_weights="none", **options)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise InputError(f"the memory does not suffice for a network of the sizes {options}") from error
    if weights:
        load_weights(network, weights)
    origin = f"of {weights}" if weights else f"untrained, drawn from the seed {SEED}"
    options = {"backbone_weights": "none", **options}
    return Exported(name, architecture, options, network.eval(), origin, space or architecture.space.name, modules)
