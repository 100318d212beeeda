"""``trials.db``, the only truth about a run: SQLite in WAL mode, readable by others while it is written.

A proposal, and an outcome, is one transaction: the trial's row together with the state of the controller that asked or
was told. A process killed at any instant therefore leaves a store that a search goes on from.
"""

import errno
import io
import json
import math
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from search_spaces.errors import InputError

__all__ = ["STORE_FORMAT", "DiagnosticRow", "PromotionRow", "RunStore", "StageRow", "TrialRow"]

STORE_FORMAT = 2
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
_SINCE_FORMAT_2 = """
CREATE TABLE IF NOT EXISTS diagnostics (
    stage TEXT NOT NULL REFERENCES stages, trial INTEGER NOT NULL REFERENCES trials, name TEXT NOT NULL, value REAL,
    PRIMARY KEY (trial, name)
) STRICT;
CREATE TABLE IF NOT EXISTS promotions (
    key TEXT NOT NULL, recipe TEXT NOT NULL, status TEXT NOT NULL, metrics TEXT NOT NULL, place TEXT NOT NULL,
    finished REAL NOT NULL, PRIMARY KEY (key, recipe)
) STRICT;
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


@dataclass(frozen=True)
class DiagnosticRow:
    """One row of ``diagnostics``: a figure of the controller's update that followed ``trial``; NaN stays NaN."""

    stage: str
    trial: int
    name: str
    value: float


@dataclass(frozen=True)
class PromotionRow:
    """One row of ``promotions``: a result of full training.

    Args:
        key: of the architecture trained.
        recipe: the full-training configuration, by name.
        status: ``"done"``, ``"diverged"`` or ``"failed"``.
        metrics: the final figures.
        place: where the training's files are.
        finished: seconds since the epoch.
    """

    key: str
    recipe: str
    status: str
    metrics: dict[str, float]
    place: str
    finished: float
    job: str = ""


class RunStore:
    """The store at ``path``; one of an older format is read as it is, and brought up to date where it is written.

    Args:
        path: of ``trials.db``.
        create: makes a new store; otherwise one must be there.
        read_only: for readers beside a running search, and in folders that cannot be written.

    Raises:
        InputError: no store, not a store, one of a newer format, or one that cannot be read in its folder.
        OSError: with ``errno.ENOSPC``, from any writing method, where the disk is full; nothing recorded is lost.
    """

    def __init__(self, path: str | Path, create: bool = False, read_only: bool = False):
        self.path = Path(path)
        if not create and not self.path.is_file():
            raise InputError(f"{self.path.parent} is not a run: it has no {self.path.name}")
        self._db = self._connect_to_read() if read_only else self._connect("mode=rwc" if create else "mode=rw")
        if create:
            self._create()
        self._format = self._check_format()
        if not read_only:
            self._db.execute("PRAGMA synchronous = FULL")  # every transaction survives a power cut too
            self._migrate()

    def _connect(self, how: str) -> sqlite3.Connection:
        db = sqlite3.connect(f"file:{quote(str(self.path.absolute()))}?{how}", uri=True, timeout=30)
        db.isolation_level = None  # transactions are spelt out in `_transaction`
        return db

    def _connect_to_read(self) -> sqlite3.Connection:
        """In a folder that cannot be written SQLite cannot make the file ``-shm`` that the readers of a WAL share.

        Where there is none, no writer has the store, and it is read as it lies, unless there are trials in the WAL.
        """
        db = self._connect("mode=ro")
        wal, shared = (self.path.with_name(self.path.name + ending) for ending in ("-wal", "-shm"))
        try:
            db.execute("PRAGMA schema_version")
        except sqlite3.DatabaseError:
            if not shared.exists():
                db.close()
                if wal.exists() and wal.stat().st_size:
                    raise InputError(
                        f"{self.path} cannot be read where nothing can be written: trials are still in {wal.name};"
                        " copy both to a folder of your own"
                    ) from None
                return self._connect("mode=ro&immutable=1")
        return db  # what else may be wrong, `_check_format` tells

    def _create(self) -> None:
        with self._full_disk_is_told():
            self._db.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            for statement in (_SCHEMA + _SINCE_FORMAT_2).split(";"):
                self._db.execute(statement)
            self._db.execute("INSERT INTO meta VALUES ('format', ?)", (str(STORE_FORMAT),))

    def _migrate(self) -> None:
        """Brings the store to this version's format; two processes may do so at once."""
        if self._format < STORE_FORMAT:
            with self._transaction():
                for statement in _SINCE_FORMAT_2.split(";"):
                    self._db.execute(statement)
                self._db.execute("UPDATE meta SET value = ? WHERE name = 'format'", (str(STORE_FORMAT),))
            self._format = STORE_FORMAT

    def _check_format(self) -> int:
        try:
            (text,) = self._db.execute("SELECT value FROM meta WHERE name = 'format'").fetchone()
            version = int(text)
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            self.close()
            raise InputError(f"{self.path} is not a run store: {error}") from error
        if version > STORE_FORMAT:
            self.close()
            raise InputError(f"{self.path}: format {version} is newer than this version reads ({STORE_FORMAT})")
        return version

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
        diagnostics: Mapping[str, float] | None = None,
    ) -> None:
        """Settles a row; saves the controller's state after it was told, and its update's figures if it made one."""
        blob = _packed(state)
        with self._transaction():
            self._db.execute(
                "UPDATE trials SET status = ?, reward = ?, reason = ?, metrics = ?, seconds = ?, cached = ?"
                " WHERE trial = ?",
                (status, reward, reason, _json(metrics), seconds, int(cached), trial),
            )
            self._db.executemany(
                "INSERT INTO diagnostics VALUES (?, ?, ?, ?)",
                [(stage, trial, name, value) for name, value in (diagnostics or {}).items()],
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

    def record_promotion(
        self,
        key: str,
        job: str,
        recipe: str,
        *,
        status: str,
        metrics: Mapping[str, float],
        place: str | Path,
        **_: Any,
    ) -> None:
        """The result of an architecture's full training, in place of an earlier one by the same recipe."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO promotions VALUES (?, ?, ?, ?, ?, ?)",
                (key, recipe, status, _json(metrics), str(place), time.time()),
            )

    def _save_state(self, stage: str, blob: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO controller_state VALUES (?, ?)", (stage, blob))

    def _read(
        self, query: str, values: tuple[Any, ...] = (), convert: Callable[[tuple[Any, ...]], Any] = tuple
    ) -> list[Any]:
        try:
            return [convert(row) for row in self._db.execute(query, values)]
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path} cannot be read: {error}") from error

    @contextmanager
    def one_moment(self) -> Iterator[None]:
        """All that is read inside is of one moment, whatever a writer commits meanwhile."""
        self._read("BEGIN")
        try:
            yield
        finally:
            self._db.execute("ROLLBACK")

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
        return self._read(
            "SELECT trial, stage, status, choices, key, reward, cached, reason, metrics, log_prob, proposal, attempts,"
            " started, seconds FROM trials WHERE ?1 IS NULL OR stage = ?1 ORDER BY trial",
            (stage,),
            _trial_row,
        )

    def interim(self, trial: int) -> list[tuple[int, int, float]]:
        """``(step, steps, reward)`` of a trial, in the order reported."""
        query = "SELECT step, steps, reward FROM interim WHERE trial = ? ORDER BY rowid"
        return self._read(query, (trial,))

    def interim_scores(self) -> dict[int, list[tuple[int, int, float]]]:
        """By trial, what `interim` gives of it; trials without an interim score are missing."""
        scores: dict[int, list[tuple[int, int, float]]] = {}
        for trial, step, steps, reward in self._read("SELECT trial, step, steps, reward FROM interim ORDER BY rowid"):
            scores.setdefault(trial, []).append((step, steps, _number(reward)))
        return scores

    def diagnostics(self) -> list[DiagnosticRow]:
        """The figures of the controllers' updates, in order; none in a store of format 1."""
        if self._format < 2:
            return []
        rows = self._read("SELECT stage, trial, name, value FROM diagnostics ORDER BY rowid")
        return [DiagnosticRow(stage, trial, name, _number(value)) for stage, trial, name, value in rows]

    def promotions(self) -> list[PromotionRow]:
        """The results of full training, in the order they were recorded; none in a store of format 1."""
        if self._format < 2:
            return []
        rows = self._read("SELECT key, recipe, status, metrics, place, finished FROM promotions ORDER BY rowid")
        return [PromotionRow(key, recipe, status, _figures(text), *rest) for key, recipe, status, text, *rest in rows]

    def interim_rewards(self, stage: str, step: int) -> list[float]:
        """The interim rewards that a stage's trials have at ``step``, in the order reported."""
        query = (
            "SELECT interim.reward FROM interim JOIN trials USING (trial)"
            " WHERE trials.stage = ? AND interim.step = ? ORDER BY interim.rowid"
        )
        return [reward for (reward,) in self._read(query, (stage, step))]


def _trial_row(row: tuple[Any, ...]) -> TrialRow:
    trial, stage, status, choices, key, reward, cached, reason, metrics, *rest = row
    figures = _figures(metrics)
    # Thousands of rows name the same few choices and options: one string of each is enough.
    named = {sys.intern(name): sys.intern(option) for name, option in json.loads(choices).items()}
    return TrialRow(trial, stage, status, named, key, reward, bool(cached), reason, figures, *rest)


def _json(figures: Mapping[str, float]) -> str:
    return json.dumps({name: value if math.isfinite(value) else None for name, value in figures.items()})


def _figures(text: str) -> dict[str, float]:
    return {name: _number(value) for name, value in json.loads(text).items()}


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _packed(state: dict[str, Any]) -> bytes:
    import torch

    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _unpacked(blob: bytes) -> dict[str, Any]:
    import torch

    state: dict[str, Any] = torch.load(io.BytesIO(blob), weights_only=True)
    return state
