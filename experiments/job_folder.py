"""A full training's folder: what it is of, its checkpoint, the weights it ended with, and its figures.

``job.json`` is written first and says what the folder is for: a resumed job must be the same one. ``result.json`` is
written last, so a folder that has it is finished.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from experiments.promotion import JobOptions
from proxy_tasks.task import Diverged
from proxy_tasks.weights import read_state_dict, serialised, state_hash
from search_spaces import Architecture, InputError
from search_spaces.files import write_whole

__all__ = [
    "JOB_FORMAT",
    "dependencies",
    "finished",
    "open_job",
    "read_job",
    "read_result",
    "recipe_of",
    "refuse_not_finite",
    "save_weights",
    "trained_sizes",
    "write_result",
]

JOB_FORMAT = 1
BUILT_BY = ("backbone", "width", "centerness_on")
"""The settings of recipes that a network is built by."""


def open_job(folder: Path, resume: bool, architecture: Architecture, recipe: Any, **parts: Any) -> None:
    """Makes the folder, or checks that it holds this very job.

    Args:
        folder: where.
        resume: whether it may be there already.
        architecture: what is trained.
        recipe: how.
        parts: whatever else the outcome depends on.

    Raises:
        InputError: the folder is there and ``resume`` is not asked for, or it holds another job.
    """
    job = json.loads(
        json.dumps(
            {
                "format": JOB_FORMAT,
                "space": architecture.space.name,
                "choices": architecture.named,
                "recipe": {"kind": type(recipe).__name__, **asdict(recipe)},
                **parts,
            }
        )
    )
    path = folder / "job.json"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(job, indent=1))
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error
        return
    if not resume:
        raise InputError(f"{folder} holds a training already; choose another --out, or go on with it by --resume")
    for name, value in _flat(read_job(path)).items():
        if _flat(job).get(name) != value:
            raise InputError(
                f"{path}: the training there has {name} = {value!r}, but {_flat(job).get(name)!r} is asked for"
            )


def read_job(path: Path) -> dict[str, Any]:
    """The content of ``job.json`` or ``result.json``; raises `InputError` where it is damaged or of a newer format."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        version = int(content["format"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {error}") from error
    if version > JOB_FORMAT:
        raise InputError(f"{path}: format {version} is newer than this version reads ({JOB_FORMAT})")
    return content


def recipe_of(job: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The settings that a job was trained by; raises `InputError` where ``job.json``, at ``path``, has none."""
    recipe = job.get("recipe")
    if not isinstance(recipe, dict):
        raise InputError(f"{path}: key 'recipe' must be a JSON object, got {recipe!r}")
    return recipe


def _flat(job: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in job.items():
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, dict) else {name: value}
    return flat


def write_result(folder: Path, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Writes ``result.json`` and returns its content, as it is read again."""
    text = json.dumps({"format": JOB_FORMAT, **figures}, indent=1)
    write_whole(folder / "result.json", text)
    content: dict[str, Any] = json.loads(text)
    return content


def read_result(folder: Path) -> dict[str, Any] | None:
    """What `write_result` wrote, None where the job is not finished; raises `InputError` where it is damaged."""
    path = folder / "result.json"
    if not path.exists():
        return None
    content = read_job(path)
    for name, kind in (("metrics", dict), ("cost", dict), ("device", str)):
        if not isinstance(content.get(name), kind):
            raise InputError(f"{path}: key {name!r} must be a JSON {kind.__name__}, got {content.get(name)!r}")
    return content


def finished(folder: Path, options: JobOptions) -> dict[str, Any] | None:
    """The result of a finished job; None where there is none yet, or pictures are wanted that it has not drawn."""
    result = read_result(folder)
    return result if result is not None and result.get("pictures", 0) >= options.pictures else None


def dependencies(data: str, options: JobOptions, network: nn.Module) -> dict[str, Any]:
    """What a job's outcome depends on beside architecture and recipe.

    Args:
        data: the fingerprint of the data.
        options: seed and iterations.
        network: as it starts.
    """
    return {
        "data": data,
        "seed": options.seed,
        "iterations": options.iterations,
        "initial weights": state_hash(network),
    }


def refuse_not_finite(network: nn.Module) -> None:
    """Raises `Diverged` where a tensor of a trained network is not finite."""
    for name, value in network.state_dict().items():
        if not torch.isfinite(value).all():
            raise Diverged(f"the trained {name!r} is not finite")


def save_weights(network: nn.Module, path: Path) -> None:
    """Writes a network's state dict, safetensors, in one step."""
    write_whole(path, serialised(network))


def trained_sizes(weights: Path, classifiers: Sequence[str] = ()) -> dict[str, Any]:
    """The sizes of the network whose weights these are, as far as they are known.

    Args:
        weights: a file; what builds its network otherwise than by default is that of the recipe in ``job.json`` beside
            it, and ``num_classes`` that of its ``result.json``.
        classifiers: names of tensors with as many elements as there are classes, which says how many where there is no
            such result.

    Raises:
        InputError: the weights or the job cannot be read.
    """
    state, job = read_state_dict(weights), weights.parent / "job.json"
    recipe = recipe_of(read_job(job), job) if job.is_file() else {}
    sizes: dict[str, Any] = {name: recipe[name] for name in BUILT_BY if recipe.get(name) is not None}
    if not isinstance(sizes.get("backbone", ""), str) or not isinstance(sizes.get("width", 0), int | str):
        raise InputError(f"{job}: a recipe's backbone is a name and its width a number, got {sizes}")
    for name in classifiers:
        if name in state:
            sizes["num_classes"] = len(state[name])
    result = read_result(weights.parent) or {}
    if isinstance(result.get("classes"), list):
        sizes["num_classes"] = len(result["classes"])
    return sizes
