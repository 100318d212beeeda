"""``trials.db``, the only truth about a run: SQLite, readable by others while it is written.

A proposal, and an outcome, is one transaction: the trial's row together with the state of the controller that asked or
was told. A process killed at any instant therefore leaves a store that a search goes on from.
"""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controllers.base import WHOLE
from nas.run.encoding import figures_text, number, packed, promotion_row, trial_row, unpacked
from nas.run.rows import DiagnosticRow, Outcome, PromotionRow, StageRow, TrialRow
from nas.run.schema import STORE_FORMAT, TRANSIENT_BEFORE_3
from nas.run.score_table import ScoreTable

__all__ = ["STORE_FORMAT", "DiagnosticRow", "PromotionRow", "RunStore", "StageRow", "TrialRow"]


class RunStore(ScoreTable):
    """A run's stages, trials, controllers and promotions, and by its base the scores beside them; see `StoreFile`."""

    def add_stage(self, stage: str, position: int, trials: int) -> None:
        """Makes a stage known, unless it is already."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO stages (stage, position, trials) VALUES (?, ?, ?)", (stage, position, trials)
            )

    def set_trials(self, stage: str, trials: int) -> None:
        """Changes how many rows a stage is to have; one that was finished with fewer goes on."""
        with self._transaction():
            self._db.execute(
                "UPDATE stages SET finished = finished AND ?1 <= trials, trials = ?1 WHERE stage = ?2", (trials, stage)
            )

    def finish_stage(self, stage: str) -> None:
        """Marks a stage; every trial of it must be settled."""
        with self._transaction():
            query = "SELECT count(*) FROM trials WHERE stage = ? AND status = 'running'"
            (running,) = self._db.execute(query, (stage,)).fetchone()
            assert running == 0, f"stage {stage} cannot finish: {running} of its trials are running"
            self._db.execute("UPDATE stages SET finished = 1 WHERE stage = ?", (stage,))

    def record_proposal(
        self,
        stage: str,
        choices: Mapping[str, str],
        key: str,
        proposal: int,
        log_prob: float,
        parts: Mapping[str, Any],
    ) -> int:
        """A new row with status ``running``, and what asking changed in the controller; returns the trial's number.

        Args:
            stage: the name of the trial's stage.
            choices: the option of every choice, by name.
            key: the network's key.
            proposal: the controller's number for it.
            log_prob: in nats.
            parts: the changed parts of the controller's state, by name; None for one that is gone. All others stay.
        """
        blobs = packed(parts)
        with self._transaction(lasting=False):
            cursor = self._db.execute(
                "INSERT INTO trials (stage, status, choices, key, log_prob, proposal, started)"
                " VALUES (?, 'running', ?, ?, ?, ?, ?)",
                (stage, json.dumps(dict(choices)), key, log_prob, proposal, time.time()),
            )
            self._save_parts(stage, blobs)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def record_outcome(
        self,
        trial: int,
        stage: str,
        outcome: Outcome,
        parts: Mapping[str, Any],
        diagnostics: Mapping[str, float] | None = None,
    ) -> None:
        """Settles a row, and saves what the telling changed in the controller.

        Args:
            trial: its number.
            stage: its stage.
            outcome: how it ended.
            parts: as for `record_proposal`.
            diagnostics: the figures of the controller's update, if it made one.
        """
        blobs = packed(parts)
        values = (outcome.status, outcome.reward, outcome.reason, figures_text(outcome.metrics), outcome.seconds)
        with self._transaction():
            self._db.execute(
                "UPDATE trials SET status = ?, reward = ?, reason = ?, metrics = ?, seconds = ?, transient = ?"
                " WHERE trial = ?",
                (*values, int(outcome.transient), trial),
            )
            self._db.executemany(
                "INSERT INTO diagnostics VALUES (?, ?, ?, ?)",
                [(stage, trial, name, value) for name, value in (diagnostics or {}).items()],
            )
            self._save_parts(stage, blobs)

    def record_interim(self, trial: int, stage: str, step: int, steps: int, reward: float) -> None:
        """A score along the way."""
        with self._transaction(lasting=False):
            self._db.execute(
                "INSERT INTO interim (trial, stage, step, steps, reward) VALUES (?, ?, ?, ?, ?)",
                (trial, stage, step, steps, reward),
            )

    def record_attempts(self, trial: int, attempts: int) -> None:
        """How often a trial was begun, if it is running; what an attempt reported along the way is dropped."""
        with self._transaction():
            query = "UPDATE trials SET attempts = ? WHERE trial = ? AND status = 'running'"
            if self._db.execute(query, (attempts, trial)).rowcount:
                self._db.execute("DELETE FROM interim WHERE trial = ?", (trial,))

    def record_promotion(
        self,
        key: str,
        job: str,
        recipe: str,
        *,
        status: str,
        metrics: Mapping[str, float],
        place: str | Path,
        reason: str | None = None,
    ) -> None:
        """The result of an architecture's full training, in place of an earlier one of the same job; see the row."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO promotions VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (key, job, recipe, status, figures_text(metrics), str(place), reason, time.time()),
            )

    def _save_parts(self, stage: str, blobs: Mapping[str, bytes | None]) -> None:
        if blobs and WHOLE not in blobs:  # what replaces the state of an older version is all of the parts
            self._db.execute("DELETE FROM controller_state WHERE stage = ? AND part = ?", (stage, WHOLE))
        for part, blob in blobs.items():
            if blob is None:
                self._db.execute("DELETE FROM controller_state WHERE stage = ? AND part = ?", (stage, part))
            else:
                self._db.execute(
                    "INSERT INTO controller_state VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET state = excluded.state",
                    (stage, part, blob),
                )

    def controller_state(self, stage: str) -> dict[str, Any] | None:
        """The controller's latest state, None before its first proposal."""
        part = "part" if self._format >= 3 else f"'{WHOLE}'"
        rows = self._read(f"SELECT {part}, state FROM controller_state WHERE stage = ?", (stage,))
        parts = {part: unpacked(blob) for part, blob in rows}
        return parts.get(WHOLE, parts) or None

    def stages(self) -> list[StageRow]:
        """The stages begun, in order."""
        rows = self._read("SELECT stage, trials, finished FROM stages ORDER BY position")
        return [StageRow(stage, trials, bool(finished)) for stage, trials, finished in rows]

    def trials(self, stage: str | None = None) -> list[TrialRow]:
        """All rows, or one stage's, in the order of their proposals."""
        return self._trials("?1 IS NULL OR stage = ?1", stage)

    def trial(self, number: int) -> TrialRow:
        """One row."""
        (row,) = self._trials("trial = ?1", number)
        return row

    def _trials(self, where: str, value: str | int | None) -> list[TrialRow]:
        transient = "transient" if self._format >= 3 else f"coalesce({TRANSIENT_BEFORE_3}, 0)"
        return self._read(
            "SELECT trial, stage, status, choices, key, reward, reason, metrics, log_prob, proposal, attempts,"
            f" {transient}, started, seconds FROM trials WHERE {where} ORDER BY trial",
            (value,),
            trial_row,
        )

    def counts(self) -> dict[str, int]:
        """How many rows each stage has, by its name; a stage without any is left out."""
        return dict(self._read("SELECT stage, count(*) FROM trials GROUP BY stage"))

    def interim(self, trial: int) -> list[tuple[int, int, float]]:
        """``(step, steps, reward)`` of a trial, in the order reported."""
        return self.interim_scores().get(trial, [])

    def interim_scores(self) -> dict[int, list[tuple[int, int, float]]]:
        """By trial, what `interim` gives of it; trials without an interim score are missing."""
        scores: dict[int, list[tuple[int, int, float]]] = {}
        for trial, step, steps, reward in self._read("SELECT trial, step, steps, reward FROM interim ORDER BY rowid"):
            scores.setdefault(trial, []).append((step, steps, number(reward)))
        return scores

    def interim_rewards(self, stage: str) -> list[tuple[int, float]]:
        """The step and reward of each interim score of a stage."""
        return self._read("SELECT step, reward FROM interim WHERE stage = ? AND reward IS NOT NULL", (stage,))

    def diagnostics(self) -> list[DiagnosticRow]:
        """The figures of the controllers' updates, in order; none in a store of format 1."""
        if self._format < 2:
            return []
        rows = self._read("SELECT stage, trial, name, value FROM diagnostics ORDER BY rowid")
        return [DiagnosticRow(stage, trial, name, number(value)) for stage, trial, name, value in rows]

    def promotions(self) -> list[PromotionRow]:
        """The results of full training, in the order they were recorded; none in a store of format 1."""
        if self._format < 2:
            return []
        job, reason = ("job", "reason") if self._format >= 3 else ("''", "NULL")
        return self._read(
            f"SELECT key, {job}, recipe, status, metrics, place, {reason}, finished FROM promotions ORDER BY rowid",
            convert=promotion_row,
        )
