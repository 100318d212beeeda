"""The proxy task's contract: how a candidate is scored on the scaled-down task.

A task's `evaluate` is a generator, so that one definition serves every engine and any stopping rule: close it to stop
early. Nothing in it depends on which trial comes first: the same architecture gets the same score.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from proxy_tasks.cache import default_root
from search_spaces.space import Architecture, SearchSpace

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Counted", "Data", "Diverged", "Interim", "Progress", "ProxyTask", "Score", "TaskOptions", "out_of_memory"]

Progress = Callable[[str, int, int], None]
"""``progress(what, done, total)`` is called while a task prepares."""
Counted = Callable[[int, int], None]
"""``counted(done, total)``: a `Progress` of one thing, ``functools.partial(progress, what)``."""


class Diverged(ArithmeticError):
    """Training gave NaN or an infinity; the message says what and at which iteration."""


@dataclass(frozen=True)
class Interim:
    """A score along the way.

    Trials of one task are compared by their scores at equal steps, so every evaluation yields its own at the same ones.

    Args:
        step: training iterations (or epochs) done.
        steps: the training iterations (or epochs) of a whole evaluation.
        reward: the task's reward as it stands; higher is better, of any sign.
        metrics: figures known by then, named as in `Score`.
        seconds: wall time of the evaluation so far.
    """

    step: int
    steps: int
    reward: float
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Score:
    """The final score.

    Args:
        reward: higher is better, of any sign.
        metrics: figures beside it, e.g. the loss's terms, ``params``, ``macs``, ``ap``.
    """

    reward: float
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskOptions:
    """What every proxy task is told; a plain value that travels to workers.

    Args:
        data: a dataset's folder, or None for the built-in ``shapes``.
        preset: ``demo`` (a laptop) or ``paper`` (the published settings).
        device: a torch device.
        seed: draws the split into meta-train and meta-val, the crops, the initial weights and the batches.
        reward: ``loss`` (its negative on meta-val) or ``metric``.
        all_metrics: the final score has both ``loss`` and the metric among its metrics, whatever the reward is, also
            where measuring the other takes time.
        cache_dir: where caches go; None is ``~/.cache/nas-search``.
        backbone: a name; None is the preset's.
        backbone_weights: ``default``, ``none`` or a file.
        static: weights of the trained static network, for the video task; None trains one while preparing.
        kept: the folder in which a run keeps the parts that were trained for it (`ProxyTask.kept`), each in
            ``NAME.safetensors``: what is there is not trained anew, wherever the cache is. None is no such folder.
        skip_bad_boxes: drop boxes of no area or outside their image instead of refusing the data.
        overrides: the preset's settings to change, by name.
    """

    data: str | None = None
    preset: str = "demo"
    device: str = "cpu"
    seed: int = 0
    reward: str = "loss"
    all_metrics: bool = False
    cache_dir: str | None = None
    backbone: str | None = None
    backbone_weights: str = "default"
    static: str | None = None
    kept: str | None = None
    skip_bad_boxes: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)

    def kept_file(self, name: str) -> Path | None:
        """The weights of a part that was trained before; None where there are none."""
        path = Path(self.kept, f"{name}.safetensors") if self.kept else None
        return path if path and path.is_file() else None

    @property
    def cache_root(self) -> Path:
        """The cache directory as a path."""
        return Path(self.cache_dir).expanduser() if self.cache_dir else default_root()


class Data(Protocol):
    """What a search needs to know of the data that a task trains on."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of what the data is, wherever it lies."""

    def describe(self) -> str:
        """One line: layout, amount, classes."""


@runtime_checkable
class ProxyTask(Protocol):
    """Scores the architectures of one space; a task that derives from it need not define what has a body here."""

    space: SearchSpace
    keeps: tuple[str, ...] = ()
    """Those parts of `kept` that the full training of winners starts from; each is the name of a fingerprint too."""

    def open_data(self) -> Data:
        """Opens and checks the training data; cheap, before anything is prepared.

        Raises:
            InputError: the data are bad: file and place.
        """

    def prepare(self, progress: Progress) -> None:
        """Once per machine: fine-tunes and freezes the backbone, builds or opens the caches.

        Safe to call in several processes at once: one builds, the others wait and open what it built.
        """

    def release(self) -> None:
        """Frees what is held on the device, for other processes to use; `evaluate` takes back what it needs."""

    def fingerprints(self) -> dict[str, str]:
        """What the scores depend on (data, backbone, cache), for ``run.yaml``; call after `prepare`.

        In a progressive search that has what is taken from the stage before among it.
        """

    def evaluate(self, architecture: Architecture, seed: int | None = None) -> Iterator[Interim | Score]:
        """Trains and scores; yields any number of `Interim` and, last, one `Score`.

        Args:
            architecture: an architecture of the task's space, or any other that the task `takes`.
            seed: draws the initial weights and the batches; None is the search's seed, the same for every architecture.
                Data, split and crops stay those of the search's seed.

        Raises:
            Diverged: the loss or a prediction is not finite.
        """

    def takes(self, architecture: Architecture) -> bool:
        """Whether `evaluate` can score an architecture that may be of another space; asked before `prepare`."""
        return True

    def score_reference(self, name: str, seed: int | None = None) -> Score:
        """Scores a reference that is no architecture, as `evaluate` scores one.

        Args:
            name: one of the references that the task's family declares and that no published architecture has.
            seed: as in `evaluate`.

        Raises:
            KeyError: the task knows no such reference.
            Diverged: a prediction is not finite.
        """
        raise KeyError(f"the proxy task {type(self).__name__} has no reference {name!r}")

    def sizes(self) -> dict[str, Any]:
        """The sizes of the networks that are scored, named as `proxy_tasks.build_network` takes them."""
        return {}

    def forward_pass(self, architecture: Architecture) -> Callable[[], object]:
        """One forward pass of the whole network around ``architecture``, to be timed; call after `prepare`.

        The network is untrained; it is on the task's device, as is its input: one image of the size that candidates are
        scored at.
        """
        raise NotImplementedError

    def kept(self) -> "dict[str, nn.Module]":
        """Trained parts that a run keeps, so that it goes on with them wherever the cache is; call after `prepare`."""
        return {}


def out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device's or the host's memory is exhausted."""
    import torch  # here, so that a wrong setting is refused before torch is loaded

    # torch reports an exhausted host as a plain RuntimeError of its CPU allocator
    exhausted = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return exhausted or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error))
