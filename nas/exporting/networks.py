"""The network that is exported: its sizes and its weights, trained where there are trained ones."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.job_folder import read_job
from nas.building import build
from proxy_tasks import NETWORKS
from proxy_tasks.backbones import BACKBONES, read_state_dict
from proxy_tasks.weights import load_weights
from search_spaces import Architecture, InputError

__all__ = ["SEED", "Exported", "prepare"]

SEED = 0
"""Of the weights of a network that nobody has trained."""
_CLASSIFIERS = ("head.cls_logits.bias", "decoder.classifier.bias", "static.decoder.classifier.bias")


@dataclass(frozen=True)
class Exported:
    """A network with weights, and how to build it again.

    Args:
        name: of the files.
        architecture: what it was built from.
        options: of `nas.build`.
        network: in evaluation mode, on the CPU.
        origin: of the weights, in words.
        space: by what name the registry finds the space; ``MODULE:ATTRIBUTE`` one of the user's own.
        modules: of the user's own, that register what the space or the network needs.
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
        name: of the files.
        architecture: of a space whose networks can be built.
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
    options = (_sizes_of(weights) if weights else {}) | sizes
    if (backbone := options.get("backbone")) not in {None, *BACKBONES}:
        raise InputError(f"there is no backbone {backbone!r}; known: {', '.join(BACKBONES)}")
    if task == "video" and not isinstance(options.get("width", 0), int):
        raise InputError(f"the width of a segmentation network is one number, got {options['width']!r}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        network: nn.Module = build(architecture, backbone_weights="none", **options)
    if weights:
        load_weights(network, weights)
    origin = f"of {weights}" if weights else f"untrained, drawn from the seed {SEED}"
    options = {"backbone_weights": "none", **options}
    return Exported(name, architecture, options, network.eval(), origin, space or architecture.space.name, modules)


def _sizes_of(weights: Path) -> dict[str, Any]:
    """The sizes of the network whose weights these are: from the job beside them and from the classifier itself."""
    state, job = read_state_dict(weights), weights.parent / "job.json"
    recipe = read_job(job).get("recipe") if job.is_file() else {}
    if not isinstance(recipe, dict):
        raise InputError(f"{job}: key 'recipe' must be a JSON object, got {recipe!r}")
    sizes = {name: recipe[name] for name in ("backbone", "width") if name in recipe}
    for name in _CLASSIFIERS:
        if name in state:
            sizes["num_classes"] = len(state[name])
    return sizes
