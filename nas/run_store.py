"""``trials.db``, the only truth about a run: SQLite in WAL mode, readable by others while it is written.

A proposal, and an outcome, is one transaction: the trial's row together with the state of the controller that asked or
was told. A process killed at any instant therefore leaves a store that a search goes on from.
"""

import errno
import io
import json
import math
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from search_spaces.errors import InputError

__all__ = ["STORE_FORMAT", "RunStore", "StageRow", "TrialRow"]

STORE_FORMAT = 1
_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE stages (
    stage TEXT PRIMARY KEY, position INTEGER NOT NULL, trials INTEGER NOT NULL, finished INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE trials (
    trial INTEGER PRIMARY KEY, stage TEXT NOT NULL REFERENCES stages, status TEXT NOT NULL, choices TEXT NOT NULL,
    key TEXT NOT NULL, reward REAL, cached INTEGER NOT NULL DEFAULT 0, reason TEXT, metrics TEXT NOT NULL DEFAULT '{}',
    log_prob REAL NOT NULL, proposal INTEGER NOT NULL, attempts INTEGER NOT NULL DEFAULT 1, started REAL NOT NULL,
    seconds REAL
) STRICT;
CREATE TABLE interim (trial INTEGER NOT NULL REFERENCES trials, step INTEGER, steps INTEGER, reward REAL) STRICT;
CREATE TABLE controller_state (stage TEXT PRIMARY KEY REFERENCES stages, state BLOB NOT NULL) STRICT;
"""


@dataclass(frozen=True)
class StageRow:
    """One row of ``stages``: ``trials`` is how many it is to have."""

    stage: str
    trials: int
    finished: bool


@dataclass(frozen=True)
class TrialRow:
    """One row of ``trials``: ``choices`` by name, ``proposal`` the controller's id, times in seconds."""

    trial: int
    stage: str
    status: str
    choices: dict[str, str]
    key: str
    reward: float | None
    cached: bool
    reason: str | None
    metrics: dict[str, float]
    log_prob: float
    proposal: int
    attempts: int
    started: float
    seconds: float | None


class RunStore:
    """The store at ``path``.

    Args:
        path: of ``trials.db``.
        create: makes a new store; otherwise one must be there.
        read_only: for readers beside a running search.

    Raises:
        InputError: no store, not a store, or one of a newer format.
        OSError: with ``errno.ENOSPC``, from any writing method, where the disk is full; nothing recorded is lost.
    """

    def __init__(self, path: str | Path, create: bool = False, read_only: bool = False):
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise InputError(f"{self.path.parent} is not a run: it has no {self.path.name}")
        mode = "ro" if read_only else "rwc" if create else "rw"
        self._db = sqlite3.connect(f"file:{quote(str(self.path.absolute()))}?mode={mode}", uri=True, timeout=30)
        self._db.isolation_level = None  # transactions are spelt out in `_transaction`
        if create:
            self._create()
        self._check_format()
        if not read_only:
            self._db.execute("PRAGMA synchronous = FULL")  # every transaction survives a power cut too

    def _create(self) -> None:
        with self._full_disk_is_told():
            self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('format', ?)", (str(STORE_FORMAT),))

    def _check_format(self) -> None:
        try:
            (text,) = self._db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
            version = int(text)
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            self.close()
            raise InputError(f"{self.path} is not a run store: {error}") from error
        if version > STORE_FORMAT:
            self.close()
            raise InputError(f"{self.path}: format {version} is newer than this version reads ({STORE_FORMAT})")

    def close(self) -> None:
        """Closes the file; a later call of any other method is an error."""
        self._db.close()

    @contextmanager
    def _full_disk_is_told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            full = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
            if getattr(error, "sqlite_errorcode", None) in full:
                raise OSError(errno.ENOSPC, "the disk is full", str(self.path)) from error
            raise

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._full_disk_is_told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:  # a full disk has rolled back by itself
                    self._db.execute("ROLLBACK")
                raise

    def add_stage(self, stage: str, position: int, trials: int) -> None:
        """Makes a stage known, unless it is already."""
        with self._transaction():
            self._db.execute(
                "INSERT OR IGNORE INTO stages (stage, position, trials) VALUES (?, ?, ?)", (stage, position, trials)
            )

    def finish_stage(self, stage: str) -> None:
        """Marks a stage whose trials are all settled."""
        with self._transaction():
            self._db.execute("UPDATE stages SET finished = 1 WHERE stage = ?", (stage,))

    def record_proposal(
        self, stage: str, choices: Mapping[str, str], key: str, proposal: int, log_prob: float, state: dict[str, Any]
    ) -> int:
        """A new row with status ``running``, and the controller's state after it asked; returns the trial's number."""
        blob = _packed(state)
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO trials (stage, status, choices, key, log_prob, proposal, started)"
                " VALUES (?, 'running', ?, ?, ?, ?, ?)",
                (stage, json.dumps(dict(choices)), key, log_prob, proposal, time.time()),
            )
            self._save_state(stage, blob)
        assert cursor.lastrowid is not None
        return cursor.lastrowid

    def record_outcome(
        self,
        trial: int,
        stage: str,
        state: dict[str, Any],
        *,
        status: str,
        reward: float | None,
        reason: str | None,
        metrics: Mapping[str, float],
        seconds: float,
        cached: bool = False,
    ) -> None:
        """Settles a row, and saves the controller's state after it was told."""
        finite = {name: value if math.isfinite(value) else None for name, value in metrics.items()}
        blob = _packed(state)
        with self._transaction():
            self._db.execute(
                "UPDATE trials SET status = ?, reward = ?, reason = ?, metrics = ?, seconds = ?, cached = ?"
                " WHERE trial = ?",
                (status, reward, reason, json.dumps(finite), seconds, int(cached), trial),
            )
            self._save_state(stage, blob)

    def record_interim(self, trial: int, step: int, steps: int, reward: float) -> None:
        """A score along the way."""
        with self._transaction():
            self._db.execute("INSERT INTO interim VALUES (?, ?, ?, ?)", (trial, step, steps, reward))

    def record_restart(self, trial: int) -> None:
        """One more attempt at a running trial; what an earlier attempt reported along the way is dropped."""
        with self._transaction():
            self._db.execute("UPDATE trials SET attempts = attempts + 1 WHERE trial = ?", (trial,))
            self._db.execute("DELETE FROM interim WHERE trial = ?", (trial,))

    def _save_state(self, stage: str, blob: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO controller_state VALUES (?, ?)", (stage, blob))

    def _read(self, query: str, values: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error

    def controller_state(self, stage: str) -> dict[str, Any] | None:
        """The controller's latest state, None before its first proposal."""
        rows = self._read("SELECT state FROM controller_state WHERE stage = ?", (stage,))
        return _unpacked(rows[0][0]) if rows else None

    def stages(self) -> list[StageRow]:
        """The stages begun, in order."""
        rows = self._read("SELECT stage, trials, finished FROM stages ORDER BY position")
        return [StageRow(stage, trials, bool(finished)) for stage, trials, finished in rows]

    def trials(self, stage: str | None = None) -> list[TrialRow]:
        """All rows, or one stage's, in the order of their proposals."""
        rows = self._read(
            "SELECT trial, stage, status, choices, key, reward, cached, reason, metrics, log_prob, proposal, attempts,"
            " started, seconds FROM trials WHERE ?1 IS NULL OR stage = ?1 ORDER BY trial",
            (stage,),
        )
        return [_trial_row(row) for row in rows]

    def interim(self, trial: int) -> list[tuple[int, int, float]]:
        """``(step, steps, reward)`` of a trial, in the order reported."""
        query = "SELECT step, steps, reward FROM interim WHERE trial = ? ORDER BY rowid"
        return self._read(query, (trial,))


def _trial_row(row: tuple[Any, ...]) -> TrialRow:
    trial, stage, status, choices, key, reward, cached, reason, metrics, *rest = row
    figures = {name: math.nan if value is None else value for name, value in json.loads(metrics).items()}
    return TrialRow(trial, stage, status, json.loads(choices), key, reward, bool(cached), reason, figures, *rest)


def _packed(state: dict[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _unpacked(blob: bytes) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(io.BytesIO(blob), weights_only=True)
    return state
