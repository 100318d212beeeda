"""The file of a run store: opened, checked and brought up to date; whole transactions, and readings of one moment."""

import sqlite3
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nas.run.connection import choose_journal, connect, connect_to_read, full_disk_raised, transaction
from nas.run.schema import STORE_FORMAT, stored_format, upgrade
from search_spaces.errors import InputError

__all__ = ["StoreFile"]

PAGE = 512  # bytes: a transaction changes a few hundred in each of a dozen places, and writes every page whole
JOURNAL = 2**22  # bytes of the write-ahead journal, from which on it is moved into the file


class StoreFile:
    """The store at ``path``; one of an older format is read as it is, and brought up to date where it is written.

    Args:
        path: the file ``trials.db``.
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
        if read_only:
            self._db = connect_to_read(self.path)
        else:
            self._db = connect(self.path, "mode=rwc" if create else "mode=rw")
        try:
            self._format = 0 if create else self._check_format()
            if not read_only:
                self._prepare_to_write(create)
        except BaseException:
            self.close()
            raise

    def _prepare_to_write(self, create: bool) -> None:
        with full_disk_raised(self.path):
            if create:
                self._db.execute(f"PRAGMA page_size = {PAGE}")
            (page,) = self._db.execute("PRAGMA page_size").fetchone()  # an older store's is larger
            self._db.execute(f"PRAGMA wal_autocheckpoint = {JOURNAL // page}")
            slower = choose_journal(self._db, self.path)
        if slower and not create:
            warnings.warn(slower, stacklevel=3)
        self._has_wal = self._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        self._upgrade()

    def _check_format(self) -> int:
        try:
            version = stored_format(self._db)
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            raise InputError(f"{self.path} is not a run store: {error}") from error
        if version > STORE_FORMAT:
            raise InputError(f"{self.path}: format {version} is newer than this version reads ({STORE_FORMAT})")
        return version

    def _upgrade(self) -> None:
        """Brings the store to this version's format; two processes may do so at once."""
        if self._format < STORE_FORMAT:
            with self._transaction():
                upgrade(self._db, stored_format(self._db) if self._format else 0)
            self._format = STORE_FORMAT

    def close(self) -> None:
        """Closes the file; a later call of any other method is an error."""
        self._db.close()

    @contextmanager
    def _transaction(self, lasting: bool = True) -> Iterator[None]:
        """A transaction that survives a power cut, or, where it need not be ``lasting``, a kill of the process alone.

        A trial that a power cut takes out of the store while it is running is proposed again, by the same controller's
        state: waiting for the disk at its proposal and its interim scores would save nothing. What a later transaction
        makes last, it makes last with all before it. A rollback journal needs the waiting for its own consistency.
        """
        self._db.execute(f"PRAGMA synchronous = {'FULL' if lasting or not self._has_wal else 'NORMAL'}")
        with transaction(self._db, self.path):
            yield

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
