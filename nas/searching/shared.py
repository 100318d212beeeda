"""What all parts of one search share, and what each of them does alike: prepare a task, drive a loop."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nas.run.confirmed import subject_of
from nas.run.directory import read_record, write_record
from nas.run.rows import Contender, Outcome
from nas.run.store import RunStore
from nas.searching import kept, reuse
from nas.searching.display import Display
from nas.searching.engines import Engine
from nas.searching.in_turn import Trials
from nas.searching.limits import Limits
from nas.searching.resuming import refuse_change
from nas.searching.scoring import ScoringLoop
from nas.searching.trials import Settled
from nas.settings import SearchSettings
from nas.settings.targets import Targets
from proxy_tasks.task import Diverged
from search_spaces import InputError

if TYPE_CHECKING:
    from proxy_tasks.task import ProxyTask

__all__ = ["Shared"]

MakeTask = Callable[[], "ProxyTask"]


@dataclass
class Shared:
    """What all parts of one search share.

    Args:
        run: its directory.
        settings: that it goes on with.
        store: open for writing.
        engine: runs the trials.
        display: shows them.
        limits: the search's deadline and the time that a trial may take.
        sources: other runs whose scores are taken over.
    """

    run: Path
    settings: SearchSettings
    store: RunStore
    engine: Engine
    display: Display
    limits: Limits
    sources: Sequence[reuse.Source] = ()

    def prepared(self, name: str, make_task: MakeTask) -> "ProxyTask":
        """The task, prepared, for workers to take over; ``name`` is that of its fingerprints in ``run.yaml``.

        The run takes over the settings, too: only now, since a search that is refused must leave it as it was.

        Raises:
            InputError: the data are bad or have changed, or what is trained for the task diverges.
        """
        task = make_task()
        try:
            task.prepare(self.display.preparing)
        except Diverged as error:
            raise InputError(f"stage {name} cannot be prepared: {error}; lower its learning rates by --set") from error
        self._record_fingerprints(name, task.fingerprints())
        self.take_settings()
        kept.keep(self.run, task)
        task.release()  # for the workers; this process takes back what it needs
        return task

    def known(self, stage: str, fingerprints: Mapping[str, str], first: bool) -> dict[str, tuple[str, Outcome]]:
        """The scores of other runs that are a stage's too, as `SearchLoop` takes them.

        Raises:
            InputError: the first stage's are not; those of a later one depend on the winner before it.
        """
        known: dict[str, tuple[str, Outcome]] = {}
        for source in self.sources:
            if other := reuse.mismatch(source, stage, fingerprints):
                if first:
                    raise InputError(f"the run {source.run} cannot be reused: {other}")
                self.display.say(f"Nothing is taken over from {source.run} for {stage}: {other}")
                continue
            found = source.known(stage, Targets(self.settings.target))
            self.display.say(f"{stage}: {len(found)} scores are taken over from {source.run}")
            known |= found
        return known

    def take_settings(self) -> None:
        """Writes the settings into the run."""
        record = read_record(self.run)
        if record.settings != self.settings:
            write_record(self.run, replace(record, settings=self.settings))

    def _record_fingerprints(self, name: str, fingerprints: dict[str, str]) -> None:
        record = read_record(self.run)
        if name in record.fingerprints:
            refuse_change(self.run, fingerprints, record.fingerprints[name])
            return
        write_record(self.run, replace(record, fingerprints={**record.fingerprints, name: fingerprints}))

    def drive(self, loop: Trials, task: "ProxyTask", make_task: MakeTask) -> bool:
        """Runs the trials of a loop; returns whether it is finished, which it is not where time is up."""
        with loop.given_back():
            self.engine(loop, task, make_task)
        self.display.stage_done()
        return loop.finished

    def planned(self, purpose: str, wanted: Sequence[tuple[Contender, int]]) -> int:
        """Makes the rows of contenders with their seeds; returns how many of them are still to be scored."""
        self.store.record_plan(purpose, wanted)
        return sum(not row.settled for row in self.store.scores(purpose))

    def score(self, purpose: str, make_task: MakeTask) -> bool:
        """Scores what is planned for a purpose; returns whether all of it is scored, which it is not where time is up.

        Args:
            purpose: of the rows.
            make_task: as an engine takes it.
        """
        if self.limits.over:
            return False
        task = self.prepared(purpose, make_task)
        rows = self.store.scores(purpose)
        self.display.stage(purpose, sum(row.settled for row in rows), len(rows), None)
        return self.drive(self.scoring(purpose, self.display.settled), task, make_task)

    def scoring(self, purpose: str, on_settled: Callable[[Settled], None]) -> ScoringLoop:
        """The loop that scores what is planned for a purpose."""
        whole = self.settings.search_space()
        return ScoringLoop(
            self.store,
            purpose,
            lambda contender: subject_of(contender, whole),
            on_settled,
            self.limits,
            isolated=bool(self.settings.workers),
        )
