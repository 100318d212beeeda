"""From settings to stages: which spaces a search goes through, how many trials each gets, what device and preset."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.families import family_of, options_of_others
from nas.settings import SearchSettings
from nas.settings.targets import LATENCY
from search_spaces import Architecture, InputError, SearchSpace

if TYPE_CHECKING:
    from proxy_tasks.task import ProxyTask, TaskOptions

__all__ = ["Stage", "find_device", "make_plan", "resolve", "task_factory"]


@dataclass(frozen=True)
class Stage:
    """One search over one space: ``trials`` counts every row, duplicates and failures too."""

    name: str
    space: SearchSpace
    trials: int


def resolve(settings: SearchSettings) -> SearchSettings:
    """The settings with device, preset, trials and reward decided.

    Raises:
        InputError: CUDA is asked for and this machine has none; the figures of trials are not as many as the stages; a
            setting for worker processes is given though there are none, or an option of another family; or the space is
            unknown.
    """
    for name in ("ray_address", "gpus_per_worker"):
        if settings.workers == 0 and getattr(settings, name) is not None:
            raise InputError(f"setting {name!r} is for worker processes, but 'workers' is 0; give --workers too")
    space = settings.search_space()
    family = family_of(space)
    for option, owner in options_of_others(family).items():
        if getattr(settings, option, None):
            raise InputError(f"setting {option!r} is for {owner} spaces, and {settings.space!r} is none; leave it out")
    device = find_device(settings.device)  # loads torch, for which a wrong space need not wait
    # The built-in images are the demo's, whatever the machine: the paper's sizes need real data and a download.
    preset = settings.preset or ("paper" if device == "cuda" and settings.data is not None else "demo")
    names = [stage.name for stage in space.stages]
    trials = settings.trials or family.default_trials(preset, len(names))
    if len(trials) not in (1, len(names)):
        raise InputError(
            f"trials gives {len(trials)} figures, but {settings.space!r} has {len(names)} stage(s): {', '.join(names)}"
        )
    reward = settings.reward or family.reward
    trials = trials * (len(names) // len(trials))
    return settings.changed(device=device, preset=preset, trials=trials, reward=reward)


def find_device(wanted: str) -> str:
    """``"cpu"`` or ``"cuda"``."""
    if wanted == "cpu":
        return wanted
    import torch

    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise InputError(
            "device 'cuda' is asked for, but torch finds no CUDA device here, where the caches are prepared;"
            " start the search on a node that has one, or use --device cpu"
        )
    return "cuda" if found else "cpu"


def make_plan(settings: SearchSettings) -> tuple[Stage, ...]:
    """The stages of resolved settings; raises `InputError` for an unknown space."""
    assert settings.trials is not None, "settings are resolved first"
    stages = settings.search_space().stages
    return tuple(Stage(space.name, space, n) for space, n in zip(stages, settings.trials, strict=True))


def task_factory(
    stage: Stage, settings: SearchSettings, previous: Architecture | None, kept: Path | None = None
) -> "Callable[[], ProxyTask]":
    """A picklable function without arguments that makes the stage's proxy task, here or in a worker.

    Args:
        stage: what is searched.
        settings: resolved.
        previous: the winner of the stage before.
        kept: the folder of the parts that were trained for the run before.
    """
    import proxy_tasks

    assert settings.preset is not None, "settings are resolved first"
    assert settings.reward is not None, "settings are resolved first"
    options = proxy_tasks.TaskOptions(
        data=settings.data,
        preset=settings.preset,
        device=settings.device,
        seed=settings.seed,
        reward=settings.reward,
        cache_dir=settings.cache_dir,
        backbone=settings.backbone,
        backbone_weights=settings.backbone_weights,
        static=settings.static,
        kept=str(kept) if kept else None,
        skip_bad_boxes=settings.skip_bad_boxes,
        overrides=settings.task,
    )
    return partial(_make_task, settings, stage.space, options, previous)


def _make_task(
    settings: SearchSettings, space: SearchSpace, options: "TaskOptions", previous: Architecture | None
) -> "ProxyTask":
    import proxy_tasks

    settings.search_space()  # imports what the user registers, in a worker too
    task = proxy_tasks.make(space.proxy_task, space, options, previous)
    if LATENCY not in settings.target:
        return task
    from nas.searching.timed import timed

    return timed(task, settings.device)
