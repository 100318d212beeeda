"""The contract of measuring what was trained, without training: one network at several settings of its use.

A *setting* is a decision that the training leaves open or that may be taken anew, such as a resolution. A *point* has
one value of each; its figures are one row of a table.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from experiments.predicting import Predictor, Trained
from experiments.promotion import Column, Data
from search_spaces import Architecture

__all__ = ["Axis", "Measurement", "Setting"]


@dataclass(frozen=True)
class Setting:
    """One setting of a measurement.

    Args:
        expected: what its values are, in words: ``"numbers above 0"``.
        parse: reads a value; raises ValueError where the text is none.
        default: its values where none are given, from the settings that the network was trained by.
    """

    expected: str
    parse: Callable[[str], Any]
    default: Callable[[Mapping[str, Any]], Sequence[Any]]


@dataclass(frozen=True)
class Axis:
    """One axis of a plot: a figure, in a unit, and its label."""

    figure: str
    label: str
    unit: float = 1.0


class Measurement(ABC):
    """How a family's trained networks are measured; a `Family` names an instance as its ``measurement``.

    Attributes:
        settings: what can be set, by name; the front door adds the device.
        figures: what a row has beside the point, by name, in the order of the file's columns.
        columns: of the table, after those of the point.
        costs: the horizontal axes of the plots.
        quality: their vertical axis.
        lines: the setting that has a line for each of its values.
        marks: the setting that is written beside a line's points.
    """

    settings: ClassVar[Mapping[str, Setting]]
    figures: ClassVar[Sequence[str]]
    columns: ClassVar[Sequence[Column]]
    costs: ClassVar[Sequence[Axis]]
    quality: ClassVar[Axis]
    lines: ClassVar[str]
    marks: ClassVar[str]

    @abstractmethod
    def refusal(self, architecture: Architecture) -> str | None:
        """What such a network is, where there is nothing to set: ``"a static network, ..."``."""

    @abstractmethod
    def open_data(self, path: str | None, trained: Trained) -> Data:
        """The test set of the data in a folder, None being the built-in ones.

        Raises:
            InputError: the data are bad, or their classes are not the network's.
        """

    @abstractmethod
    def measured(
        self,
        predictor: Predictor,
        data: Any,
        point: Mapping[str, Any],
        known: Sequence[Mapping[str, Any]],
        progress: Callable[[int, int], None],
    ) -> dict[str, float]:
        """The `figures` of one point.

        Args:
            predictor: has the network, on the point's device.
            data: what `open_data` gave.
            point: a value of each setting, and ``device``.
            known: the rows of points measured before on this very device, from which figures may be taken that do not
                depend on all settings.
            progress: called with what is done and of how much.
        """
