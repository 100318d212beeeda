"""The contract of full training: what a kind of recipe is to the front door.

A recipe is a YAML file of settings; its ``kind`` says what it trains. A `RecipeKind` turns architectures and a recipe
into `Job`s, each of which trains or measures one network in a folder of its own, and says how their figures are shown.
"""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from search_spaces import Architecture, SearchSpace

__all__ = ["Column", "Data", "Job", "JobOptions", "Progress", "RecipeKind", "Result", "Searched", "counted", "identity"]

Progress = Callable[[str, int, int, float], None]
"""Called with what is done, how much of how much, and the last loss (NaN where there is none)."""
Result = dict[str, Any]
"""The content of ``result.json``: ``metrics`` and ``cost``, mappings of names to numbers, ``device``, and others."""


@dataclass(frozen=True)
class JobOptions:
    """What every full training is told beside its recipe.

    Args:
        data: the dataset's folder; None is the built-in one.
        device: a torch device.
        seed: draws the initial weights, the order of the training images and their augmentation.
        hours: each training ends after so many at the latest, and is measured as it then stands.
        iterations: steps instead of the recipe's ``epochs``; a video recipe's ``cell_epochs`` come before them.
        loaders: processes that decode images beside each that trains.
        backbone_weights: the encoder's at the start: ``default``, ``none`` or a file.
        static: weights of a trained static network.
        pictures: for how many of the test frames the predictions are drawn.
        skip_bad_boxes: leave out boxes outside their image or of no area, instead of refusing the data.
        references: published architectures, by name, that the winners of a search are trained beside.
    """

    data: str | None = None
    device: str = "cpu"
    seed: int = 0
    iterations: int | None = None
    hours: float | None = None
    loaders: int = 0
    backbone_weights: str = "default"
    static: str | None = None
    pictures: int = 0
    skip_bad_boxes: bool = False
    references: Mapping[str, Architecture] = field(default_factory=dict)


class Data(Protocol):
    """What the front door needs to know of the data that a recipe trains on."""

    @property
    def fingerprint(self) -> str:
        """Hex digest of what the data is, wherever it lies."""

    def describe(self) -> str:
        """One line: layout, amount, classes."""

    def verify(self) -> None:
        """Decodes every file once; raises `InputError` at the first that cannot be decoded."""


@dataclass(frozen=True)
class Searched:
    """What a search leaves to the full training of its winners.

    Args:
        sizes: the sizes of the network that was searched: ``backbone``, ``width``.
        weights: files of the trained parts that the run keeps, by name, such as ``"static"``.
    """

    sizes: Mapping[str, Any] = field(default_factory=dict)
    weights: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True)
class Job:
    """One network to train, or to measure as it is.

    Args:
        title: names it in tables and messages: ``"cell 1"``.
        place: begins its folder's name.
        architecture: the network's architecture.
        work: trains and measures in the folder it is given, resuming what is there where it is told to, and gives the
            result; raises `proxy_tasks.task.Diverged` and `InputError`.
        reference: it is measured for comparison, and is nothing that was asked to be trained.
    """

    title: str
    place: str
    architecture: Architecture
    work: Callable[[Path, bool, Progress], Result]
    reference: bool = False


@dataclass(frozen=True)
class Column:
    """A column of the table that compares results; on a narrow terminal a foldable one takes two lines."""

    header: str
    text: Callable[[Result], str]
    foldable: bool = False


class RecipeKind(ABC):
    """One kind of recipe; an instance is registered in `experiments.recipes.KINDS`.

    Attributes:
        settings: the dataclass of a recipe's settings, with their defaults.
        measured_on: what the figures are of, for the table's title: ``"the test frames"``.
        columns: the table's columns, after the one with the networks' names.
    """

    settings: ClassVar[type]
    measured_on: ClassVar[str]
    columns: ClassVar[Sequence[Column]]

    @abstractmethod
    def refusal(self, space: SearchSpace) -> str | None:
        """What such a recipe trains, where architectures of ``space`` are not that: ``"trains dynamic cells"``."""

    @abstractmethod
    def open_data(self, path: str | None, subset: str) -> Data:
        """The dataset's ``"train"`` or ``"test"`` images; raises `InputError` where the data are bad."""

    def opened(self, options: JobOptions, subset: str, recipe: Any) -> Data:
        """As `open_data`, of the data that the options name; for a kind whose data other settings change."""
        return self.open_data(options.data, subset)

    @abstractmethod
    def jobs(self, architectures: Sequence[Architecture], recipe: Any, options: JobOptions) -> list[Job]:
        """The trainings of these architectures, best first, and beside them their references."""

    def resolved(self, recipe: Any, options: JobOptions, searched: Searched | None) -> tuple[Any, JobOptions]:
        """Recipe and options with nothing left open.

        Args:
            recipe: as it was asked for.
            options: as they were given.
            searched: what the search leaves whose winners are trained; None where no search is known.

        Raises:
            InputError: something asked for does not go with what was searched, or is missing.
        """
        return recipe, options

    def draw_together(self, folder: Path, data: str | None, jobs: Mapping[str, Path]) -> None:  # noqa: B027 (optional)
        """Draws the finished jobs' predictions side by side.

        Args:
            folder: where to.
            data: as in `JobOptions`.
            jobs: their folders by their titles.
        """


def counted(say: Progress, what: str) -> Callable[[int, int], None]:
    """What is called with how much of how much is done, of something that has no loss."""
    return lambda done, total: say(what, done, total, math.nan)


def identity(recipe: Any, options: JobOptions, data: str) -> str:
    """16 hex digits of how something is trained, and from what.

    That is the resolved recipe, the seed, the number of iterations, the data and the weights at the start. Figures are
    compared with each other only where all of it is equal.

    Args:
        recipe: with nothing left open.
        options: likewise.
        data: the fingerprint of the training data.
    """
    how = {"kind": type(recipe).__name__, **asdict(recipe), "seed": options.seed, "iterations": options.iterations}
    start = {name: _content(getattr(options, name)) for name in ("backbone_weights", "static")}
    return hashlib.sha256(json.dumps({**how, **start, "data": data}, sort_keys=True).encode()).hexdigest()[:16]


def _content(weights: str | None) -> str | None:
    """What stands for weights wherever they lie: a file's digest, else the word for them."""
    if weights is None or not Path(weights).is_file():
        return weights
    with open(weights, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
