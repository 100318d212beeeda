"""How a candidate is scored: data, backbones, feature cache, losses, metrics."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proxy_tasks.task import Diverged, Interim, Progress, ProxyTask, Score
from search_spaces import Architecture, InputError, Registry, SearchSpace

__all__ = [
    "NETWORKS",
    "PROXY_TASKS",
    "Diverged",
    "Interim",
    "Progress",
    "ProxyTask",
    "Score",
    "TaskOptions",
    "build_network",
    "make",
    "names",
    "register",
]

PROXY_TASKS = Registry("proxy task", {"fcos": "proxy_tasks.fcos:FCOSTask", "video": "proxy_tasks.video:VideoTask"})
NETWORKS = Registry(
    "network",
    {"fcos": "proxy_tasks.detector:build_detector", "video": "proxy_tasks.segmenter:build_segmenter"},
)
"""Per proxy task, what builds the whole network around an architecture."""
names, register = PROXY_TASKS.names, PROXY_TASKS.register


@dataclass(frozen=True)
class TaskOptions:
    """What every proxy task is told; a plain value that travels to workers.

    Args:
        data: a dataset's folder, or None for the built-in ``shapes``.
        preset: ``demo`` (a laptop) or ``paper`` (the published settings).
        device: a torch device.
        seed: of the split, the crops, the initial weights and the batches.
        reward: ``loss`` (its negative on meta-val) or ``metric``.
        cache_dir: where caches go; None is ``~/.cache/nas-search``.
        backbone: a name; None is the preset's.
        backbone_weights: ``default``, ``none`` or a file.
        static: weights of the trained static network, for the video task; None trains one while preparing.
        skip_bad_boxes: drop boxes of no area or outside their image instead of refusing the data.
        overrides: the preset's settings to change, by name.
    """

    data: str | None = None
    preset: str = "demo"
    device: str = "cpu"
    seed: int = 0
    reward: str = "loss"
    cache_dir: str | None = None
    backbone: str | None = None
    backbone_weights: str = "default"
    static: str | None = None
    skip_bad_boxes: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def cache_root(self) -> Path:
        """The cache directory as a path."""
        from proxy_tasks.cache import default_root

        return Path(self.cache_dir).expanduser() if self.cache_dir else default_root()


def make(name: str | None, space: SearchSpace, options: TaskOptions, previous: Architecture | None = None) -> ProxyTask:
    """The proxy task that scores ``space``; nothing heavy happens before its `prepare`.

    Args:
        name: of the task; None is the one the space names.
        space: whose architectures are scored.
        options: the user's.
        previous: the winner of the stage before, in a progressive search.

    Raises:
        InputError: unknown task or setting; a space that names no task.
    """
    name = name or space.proxy_task
    if name is None:
        raise InputError(f"search space {space.name!r} names no proxy task; known: {', '.join(names())}")
    task: ProxyTask = PROXY_TASKS.get(name)(space, options, previous)
    return task


def build_network(architecture: Architecture, **options: Any) -> Any:
    """The whole network around ``architecture``: a detector, or a segmentation network with its cell.

    Args:
        architecture: of a space that names a proxy task.
        options: of the network's builder: `proxy_tasks.detector.build_detector`,
            `proxy_tasks.segmenter.build_segmenter`.

    Raises:
        InputError: nothing builds networks for its space.
    """
    task = architecture.definition.proxy_task
    if task is None:
        raise InputError(f"search space {architecture.space!r} names no proxy task, so nothing builds its networks")
    return NETWORKS.get(task)(architecture, **options)
