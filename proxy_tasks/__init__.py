"""How a candidate is scored: data, backbones, feature cache, losses, metrics."""

from collections.abc import Callable
from typing import Any

from proxy_tasks.task import Diverged, Interim, Progress, ProxyTask, Score, TaskOptions
from search_spaces import Architecture, InputError, Registry, SearchSpace

__all__ = [
    "NETWORKS",
    "PROXY_TASKS",
    "Diverged",
    "Interim",
    "Progress",
    "ProxyTask",
    "Score",
    "TaskKind",
    "TaskOptions",
    "build_network",
    "kind_of",
    "made_by",
    "make",
    "names",
    "register",
]

PROXY_TASKS = Registry(
    "proxy task",
    {
        "fcos": "proxy_tasks.fcos.task:FCOSTask",
        "video": "proxy_tasks.video.task:VideoTask",
        "masks": "proxy_tasks.masks.task:MaskTask",
    },
)
NETWORKS = Registry(
    "network",
    {
        "fcos": "proxy_tasks.fcos.detector:build_detector",
        "video": "proxy_tasks.video.network:build_segmenter",
        "masks": "proxy_tasks.masks.network:build_mask_network",
    },
)
"""Per proxy task, what builds the whole network around an architecture."""
TaskKind = Callable[[SearchSpace, TaskOptions, Architecture | None], ProxyTask]
names, register = PROXY_TASKS.names, PROXY_TASKS.register


def make(name: str | None, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None) -> ProxyTask:
    """The proxy task that scores ``space``; nothing heavy happens before its `prepare`.

    Args:
        name: the task's name; None is the one that the space names.
        space: whose architectures are scored.
        options: the user's.
        previous: the winner of the stage before, in a progressive search.

    Raises:
        InputError: unknown task or setting; a space that names no task.
    """
    return made_by(PROXY_TASKS.get(name) if name else kind_of(space), space, options, previous)


def kind_of(space: SearchSpace) -> TaskKind:
    """What makes the proxy tasks that a space names: their class; raises `InputError` where there is none."""
    if space.proxy_task is None:
        raise InputError(f"search space {space.name!r} names no proxy task; known: {', '.join(names())}")
    kind: TaskKind = PROXY_TASKS.get(space.proxy_task)
    return kind


def made_by(
    kind: TaskKind, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None
) -> ProxyTask:
    """As `make`, by a task's class."""
    task = kind(space, options, previous)
    if not isinstance(task, ProxyTask):
        name = getattr(kind, "__name__", kind)
        raise InputError(f"the proxy task {name!r} must derive from proxy_tasks.ProxyTask, which {type(task)} does not")
    return task


def build_network(architecture: Architecture, **options: Any) -> Any:
    """The whole network around ``architecture``: a detector, or a segmentation network with its cell.

    Args:
        architecture: an architecture of a space that names a proxy task.
        options: keyword arguments of the network's builder: `proxy_tasks.fcos.detector.build_detector`,
            `proxy_tasks.video.network.build_segmenter`, `proxy_tasks.masks.network.build_mask_network`.

    Raises:
        InputError: nothing builds networks for its space.
    """
    task = architecture.space.proxy_task
    if task is None:
        raise InputError(
            f"search space {architecture.space.name!r} names no proxy task, so nothing builds its networks"
        )
    return NETWORKS.get(task)(architecture, **options)
