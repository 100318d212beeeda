"""What a search shows: progress with the best reward and the time left, and a closing table.

On a terminal these are bars; elsewhere (a log file, a pipe) a plain line every few trials.
"""

import math
import shlex
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

from nas.searching.trials import Settled

__all__ = ["Display"]

LONG = 3600.0  # seconds of trials that the time left is reckoned from; rich's own 30 are less than one long trial


class _Console(Console):
    """Where nobody reads its output any more, as behind ``| head``, that is an interruption, and told as one."""

    def on_broken_pipe(self) -> None:
        """See `Console.on_broken_pipe`, which ends the process without a word."""
        with suppress(SystemExit):
            super().on_broken_pipe()
        raise KeyboardInterrupt


class Display:
    """Shows one search; use it as a context manager.

    Args:
        console: where to; standard output by default.
    """

    def __init__(self, console: Console | None = None):
        self.console = console or _Console()
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            disable=not self.console.is_terminal,
            speed_estimate_period=LONG,
        )
        self._bar: TaskID | None = None
        self._what = ""
        self._total = self._done = self._done_before = 0
        self._best = -math.inf
        self._inside = self._searching = 0.0
        self._begun = self._stage_begun = time.perf_counter()

    def __enter__(self) -> "Display":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """One line, above the bars."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def preparing(self, what: str, done: int, total: int) -> None:
        """A proxy task's `Progress`: a bar for each thing it prepares."""
        if what != self._what:
            self._start(what, done, total)
            if not self.console.is_terminal:
                self.say(f"{what} ({total})")
        self._update(done, total)

    def stage(self, name: str, done: int, total: int, best: float | None) -> None:
        """A stage begins, or goes on after ``done`` of ``total`` trials with the best reward so far."""
        self._best = -math.inf if best is None else best
        self._done = self._done_before = done
        self._total = total
        self._start(name, done, total)
        self._stage_begun = time.perf_counter()

    def settled(self, event: Settled) -> None:
        """A trial has come to its end."""
        self._done += 1
        self._inside += event.seconds
        if (event.status == "done" or event.reused) and event.reward is not None:
            self._best = max(self._best, event.reward)
        note = f"best {self._best:.4f}" if math.isfinite(self._best) else "no reward yet"
        self._update(self._done, self._total, note)
        every = max(1, self._total // 10)
        if not self.console.is_terminal and (self._done % every == 0 or self._done == self._total):
            self.say(f"{self._what}: trial {self._done} of {self._total}, {note}, {self._left()} left")

    def reference(self, name: str, event: Settled) -> None:
        """A reference has been scored, beside a stage's trials."""
        self._inside += event.seconds
        self.say(f"{name}: {event.status if event.reward is None else format(event.reward, '.4f')}")

    def _left(self) -> str:
        elapsed = time.perf_counter() - self._stage_begun
        seconds = elapsed / (self._done - self._done_before) * (self._total - self._done)
        return str(timedelta(seconds=round(seconds)))

    def stage_done(self) -> None:
        """The stage's time counts as spent searching."""
        self._searching += time.perf_counter() - self._stage_begun
        self._what = ""

    def closing(
        self, run: Path, tables: Iterable[Table], sentences: Iterable[str], workers: int, everywhere: bool = True
    ) -> None:
        """What was found, where the time went, and what to run next.

        Args:
            run: its directory.
            tables: of the best.
            sentences: on them.
            workers: how many there were.
            everywhere: whether other processes find the space: the commands, too.
        """
        self._bars.stop()
        for table in tables:
            self.console.print(table)
        for sentence in sentences:
            self.say(sentence)
        total = time.perf_counter() - self._begun
        if self._searching:
            share = self._inside / (self._searching * workers)
            self.say(
                f"{total:.1f} s: {total - self._searching:.1f} s preparing, {self._searching:.1f} s searching,"
                f" {share:.0%} of the search inside trials"
            )
        where, own = shlex.quote(str(run)), f"nas.load_run({str(run)!r}) in this program"
        commands = f"nas-analyze {where}, nas-export {where} --rank 1"
        self.say(f"The run is in {run}. Next: {commands if everywhere else own}")

    def _start(self, what: str, done: int, total: int) -> None:
        if self._bar is not None:
            self._bars.remove_task(self._bar)
        self._what = what
        self._bar = self._bars.add_task(what, completed=done, total=total, note="")

    def _update(self, done: int, total: int, note: str = "") -> None:
        assert self._bar is not None
        self._bars.update(self._bar, completed=done, total=total, note=note)
