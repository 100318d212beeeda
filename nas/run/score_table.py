"""The table ``scores`` of a run store: references, and the best of all stages from several seeds."""

import json
from collections.abc import Collection

from nas.run.encoding import figures_text, score_row
from nas.run.rows import Contender, Outcome, ScoreRow
from nas.run.store_file import StoreFile

__all__ = ["ScoreTable"]


class ScoreTable(StoreFile):
    """The scores of contenders, one row for each contender, seed and purpose."""

    def record_plan(self, purpose: str, wanted: Collection[tuple[Contender, int]]) -> None:
        """Makes the rows that are wanted, each a contender with a seed.

        Those that are there stay as they are; rows that are wanted no longer go unless they are settled.
        """
        with self._transaction():
            keep = {(contender.name, contender.key, seed) for contender, seed in wanted}
            for row in self.scores(purpose):
                if not row.settled and (row.contender.name, row.contender.key, row.seed) not in keep:
                    self._db.execute("DELETE FROM scores WHERE score = ?", (row.number,))
            self._db.executemany(
                "INSERT OR IGNORE INTO scores (purpose, name, key, space, choices, trials, seed)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                [
                    (purpose, c.name, c.key, c.space, json.dumps(c.choices), json.dumps(c.trials), seed)
                    for c, seed in wanted
                ],
            )

    def record_score_attempts(self, score: int, attempts: int) -> None:
        """How often the evaluation of a row that is not settled was begun; with 0 it is waiting."""
        with self._transaction(lasting=False):
            self._db.execute(
                "UPDATE scores SET attempts = ?1, status = CASE ?1 WHEN 0 THEN 'waiting' ELSE 'running' END"
                " WHERE score = ?2 AND status IN ('waiting', 'running')",
                (attempts, score),
            )

    def record_score(self, score: int, outcome: Outcome) -> None:
        """Settles a row."""
        values = (outcome.status, outcome.reward, outcome.reason, figures_text(outcome.metrics), outcome.seconds)
        with self._transaction():
            self._db.execute(
                "UPDATE scores SET status = ?, reward = ?, reason = ?, metrics = ?, seconds = ? WHERE score = ?",
                (*values, score),
            )

    def scores(self, purpose: str | None = None) -> list[ScoreRow]:
        """All rows, or those of one purpose, in the order in which they were planned; none before format 4."""
        if self._format < 4:
            return []
        return self._read(
            "SELECT score, purpose, name, key, space, choices, trials, seed, status, reward, reason, metrics,"
            " attempts, seconds FROM scores WHERE ?1 IS NULL OR purpose = ?1 ORDER BY score",
            (purpose,),
            score_row,
        )
