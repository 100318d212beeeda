"""A trained network at many settings of its use: measured one by one, kept in a table, and drawn as a trade."""

import csv
import io
import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from experiments.measuring import Measurement, Setting
from experiments.predicting import Predictor
from experiments.promotion import Data
from experiments.timing import device_name
from nas.analysis.canvas import Plot, legend, style, stylesheet
from nas.building import is_run
from nas.errors import SearchFailed
from nas.folders import ends_told, make_writable
from nas.predicting.trained import Training, find
from nas.run.directory import lock_run
from nas.run.reading import Run
from nas.searching.display import Display
from nas.searching.plan import find_device
from proxy_tasks.task import out_of_memory
from proxy_tasks.weights import state_hash
from search_spaces import InputError
from search_spaces.files import write_whole

__all__ = ["measure"]

Row = dict[str, Any]
"""A point's values and its figures, by name, then ``timed_on``, ``weights`` and ``data``."""
NAME = "measured"
OF = ("timed_on", "weights", "data")
"""What all rows of a file must share: the device by its full name, the network's weights, the test set."""


def measure(
    what: str,
    settings: Sequence[str],
    *,
    data: str | None = None,
    device: str = "auto",
    out: str | Path | None = None,
    resume: bool = False,
) -> list[Row]:
    """Measures a trained network at every combination of some settings; prints a table, writes it as CSV, and plots.

    A row is written as soon as it is measured.

    Args:
        what: a full training's folder, the weights in it, or a run (the best that was trained).
        settings: each ``"NAME=VALUE,VALUE,..."``, those of the family's `Measurement` and ``device``; one that is not
            given has its default.
        data: the dataset's folder; None is that of the run, else the built-in one.
        device: ``auto``, ``cpu`` or ``cuda``, where ``settings`` names none.
        out: the folder of what is written; None is ``measured`` in the training's folder.
        resume: go on with the file that is there: rows that it has are not measured again.

    Returns:
        the rows of the file.

    Raises:
        InputError: nothing is trained there, or nothing that can be measured so; a bad setting, bad data, or a file
            that is there already or of something else.
        SearchFailed: memory ran out, or the disk is full.
        Interrupted: by Ctrl-C; goes on with ``resume``.
    """
    training = find(what)
    how = _measurement(training)
    points = _points(how, settings, training, device)
    if data is None and is_run(what) and Path(what, "run.yaml").is_file():
        data = Run(what).settings.data
    folder = Path(out) if out else training.folder / NAME
    with Display() as display, ends_told(folder), ExitStack() as locks:
        test = how.open_data(data, training.trained)
        if data is not None:
            display.say(f"test: {test.describe()}")
            test.verify()
        make_writable(folder)
        locks.enter_context(lock_run(folder))
        sweep = _Sweep(training, how, test, folder / f"{NAME}.csv", display)
        sweep.open(points, resume)
        for point in points:
            sweep.measure(point)
    _draw(sweep.rows, how, folder)
    Console().print(_table(sweep.rows, how))
    print(f"Everything is in {folder}.")
    return sweep.rows


def _measurement(training: Training) -> Measurement:
    how: Measurement | None = training.family.function("measurement")
    if how is None:
        raise InputError(
            f"{training.folder} holds a network of the family {training.family.name!r}, which has nothing to set in"
            " measuring"
        )
    if reason := how.refusal(training.architecture):
        raise InputError(f"{training.folder} holds {reason}")
    return how


def _points(how: Measurement, texts: Iterable[str], training: Training, device: str) -> list[dict[str, Any]]:
    """Every combination of the settings' values, the device's changing last."""
    known = {**how.settings, "device": Setting("cpu or cuda", _device, lambda recipe: (find_device(device),))}
    given: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        if not equals:
            raise InputError(f"--measure takes NAME=VALUE,VALUE,..., got {text!r}")
        if name not in known:
            raise InputError(f"--measure has no setting {name!r}; known: {', '.join(known)}")
        given.setdefault(name, []).extend(_value(name, known[name], value) for value in values.split(","))
    if "device" in given and device != "auto":
        raise InputError(f"--device {device} and --measure device=... both say where; leave one of them out")
    taken = [given.get(name) or setting.default(training.trained.recipe) for name, setting in known.items()]
    combined = itertools.product(*(dict.fromkeys(one) for one in reversed(taken)))
    return [dict(zip(known, reversed(point), strict=True)) for point in combined]


def _device(text: str) -> str:
    if text not in ("cpu", "cuda"):
        raise ValueError(text)
    return find_device(text)


def _value(name: str, setting: Setting, text: str) -> Any:
    try:
        return setting.parse(text)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"--measure {name} takes {setting.expected}, with commas between several, got {text!r}"
        ) from error


@dataclass
class _Sweep:
    """The rows of one file, and what makes more of them.

    Args:
        training: the network's.
        how: it is measured.
        data: the test set.
        path: the file.
        display: shows progress.
        rows: what the file has.
    """

    training: Training
    how: Measurement
    data: Data
    path: Path
    display: Display
    rows: list[Row] = field(default_factory=list)
    _predictors: dict[str, Predictor] = field(default_factory=dict)

    @property
    def columns(self) -> list[str]:
        return [*self.how.settings, "device", *self.how.figures, *OF]

    def open(self, points: Sequence[Mapping[str, Any]], resume: bool) -> None:
        """Reads the rows that are there; raises `InputError` where none should be, or they are of something else."""
        if not self.path.exists():
            return
        if not resume:
            raise InputError(f"{self.path} is there already; choose another --out, or go on with it by --resume")
        own = {device: self._of(device) for device in dict.fromkeys(point["device"] for point in points)}
        anywhere = dict(next(iter(own.values())))
        del anywhere["timed_on"]  # a device that is not asked for now may not be here
        for line, row in enumerate(self._read(), start=2):
            for name, value in own.get(row["device"], anywhere).items():
                if row[name] != value:
                    raise InputError(
                        f"{self.path}, line {line}: {name} is {row[name]!r}, but {value!r} is measured now; choose"
                        " another --out"
                    )
            self.rows.append(row)

    def measure(self, point: Mapping[str, Any]) -> None:
        """Adds the row of a point, where there is none yet."""
        if any(all(row[name] == value for name, value in point.items()) for row in self.rows):
            return
        title = ", ".join(f"{name} {value}" for name, value in point.items())
        known = [row for row in self.rows if row["device"] == point["device"]]
        try:
            figures = self.how.measured(
                self._predictor(point["device"]),
                self.data,
                point,
                known,
                lambda done, total: self.display.preparing(title, done, total),
            )
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise SearchFailed(f"out of memory at {title}; the rows before it are in {self.path}") from error
        row = {**point, **{name: float(figures[name]) for name in self.how.figures}, **self._of(point["device"])}
        self.rows.append(row)
        self._write()
        told = ", ".join(f"{column.header} {column.text(row)}" for column in self.how.columns)
        self.display.say(f"{title}: {told}")

    def _predictor(self, device: str) -> Predictor:
        if device not in self._predictors:
            self._predictors[device] = self.training.predictor(device)
        return self._predictors[device]

    def _of(self, device: str) -> dict[str, str]:
        """See `OF`."""
        weights = state_hash(self._predictor(device).network)
        return {"timed_on": device_name(torch.device(device)), "weights": weights, "data": self.data.fingerprint[:16]}

    def _write(self) -> None:
        lines = io.StringIO()
        writer = csv.DictWriter(lines, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        write_whole(self.path, lines.getvalue())

    def _read(self) -> list[Row]:
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                reader = csv.DictReader(file, strict=True)
                texts = list(reader)
                if list(reader.fieldnames or ()) != self.columns:
                    raise ValueError(f"its columns must be {', '.join(self.columns)}")
                return [self._parsed(text) for text in texts]
        except (OSError, ValueError, TypeError, csv.Error) as error:
            raise InputError(f"{self.path} cannot be read: {error}; choose another --out") from error

    def _parsed(self, texts: Mapping[str, str]) -> Row:
        values = {name: setting.parse(texts[name]) for name, setting in self.how.settings.items()}
        figures = {name: float(texts[name]) for name in self.how.figures}
        return {**values, "device": texts["device"], **figures, **{name: texts[name] for name in OF}}


def _table(rows: Sequence[Row], how: Measurement) -> Table:
    table = Table(
        title=f"means over the test frames, timed on {'; '.join(dict.fromkeys(row['timed_on'] for row in rows))}"
    )
    names = [*how.settings, "device"]
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for column in how.columns:
        table.add_column(column.header, justify="right", no_wrap=not column.foldable)
    for row in rows:
        table.add_row(*(str(row[name]) for name in names), *(column.text(row) for column in how.columns))
    return table


def _draw(rows: Sequence[Row], how: Measurement, folder: Path) -> None:
    """Writes ``measured.svg`` and ``measured.png``: quality against each cost, a line for each scale or the like."""
    quality, several = how.quality, len({row["device"] for row in rows}) > 1
    lines = dict.fromkeys((row[how.lines], row["device"]) for row in rows)
    with stylesheet():
        caption = f"{quality.label} against cost; the number beside a point is its {how.marks}."
        plot = Plot(NAME, caption, 3.2, 1, len(how.costs), sharey=True)
        for axes, cost in zip(plot.axes, how.costs, strict=True):
            for number, line in enumerate(lines):
                own = sorted(
                    (row for row in rows if (row[how.lines], row["device"]) == line), key=lambda row: row[cost.figure]
                )
                x = [row[cost.figure] / cost.unit for row in own]
                y = [row[quality.figure] / quality.unit for row in own]
                marks = [row[how.marks] for row in own]
                label = f"{how.lines} {line[0]}" + (f", {line[1]}" if several else "")
                plot.line(axes, label, x, y, {how.marks: marks}, **style(number))
                for place, (mark, *at) in enumerate(zip(marks, x, y, strict=True)):
                    beside = (-9, -9) if place % 2 else (4, 4)  # neighbours on a line may nearly coincide
                    axes.annotate(str(mark), (at[0], at[1]), beside, textcoords="offset points", fontsize=7)
            axes.set_xlabel(cost.label)
        plot.axes[0].set_ylabel(quality.label)
        legend(plot.axes[-1])
        plot.save(folder)
