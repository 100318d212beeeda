"""How the file of a run store is opened: its journal, whole transactions, reading where nothing can be written."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from nas.run.file_systems import network_file_system
from search_spaces.errors import InputError

__all__ = ["choose_journal", "connect", "connect_to_read", "full_disk_raised", "transaction"]

PATIENCE = 30.0  # seconds that a reader or writer waits for another's transaction


def connect(path: Path, how: str) -> sqlite3.Connection:
    """A connection without implicit transactions; ``how`` is SQLite's: ``"mode=ro"``."""
    db = sqlite3.connect(f"file:{quote(str(path.absolute()))}?{how}", uri=True, timeout=PATIENCE)
    db.isolation_level = None  # transactions are spelt out in `transaction`
    return db


def choose_journal(db: sqlite3.Connection, path: Path) -> str | None:
    """Gives a store that is to be written its journal: write-ahead (WAL) where that is safe, else rollback.

    The index of a WAL is memory that all its readers and writers share, which machines that mount one network file
    system do not (https://sqlite.org/wal.html, sec. 1). With a rollback journal readers and the writer wait for each
    other; nothing else changes.

    Returns:
        why the journal is not a WAL, in a sentence; None where it is one.

    Raises:
        InputError: a store with a WAL came to a network file system and is open in another process.
    """
    network = network_file_system(path)
    try:
        (journal,) = db.execute(f"PRAGMA journal_mode = {'DELETE' if network else 'WAL'}").fetchone()
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
            raise
        if network:
            raise InputError(
                f"{path} lies on a network file system ({network}) and is open in another process; end that first"
            ) from error
        return None  # a reader has it: the journal stays as it is
    if journal == "wal":
        return None
    where = f"on a network file system ({network})" if network else "where SQLite cannot share memory"
    return f"{path.parent} lies {where}: its store is written with a rollback journal, which is safe but slower"


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Opens a store for reading, beside its writer, after a writer that was killed, and in a sealed folder.

    In a folder that cannot be written SQLite cannot make the file ``-shm`` that the readers of a WAL share. Where there
    is none, no writer has the store, and it is read as it lies, unless a journal holds trials beside it.

    Raises:
        InputError: there are such trials.
    """
    db = connect(path, "mode=ro")
    wal, shared, rollback = (path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal"))
    try:
        db.execute("PRAGMA schema_version")
    except sqlite3.DatabaseError:
        if shared.exists():
            return db  # what else may be wrong, its format tells
        db.close()
        if _has_content(rollback) and _recovered(path):
            return connect(path, "mode=ro")
        for journal in (wal, rollback):
            if _has_content(journal):
                raise InputError(
                    f"{path} cannot be read where nothing can be written: trials are still in {journal.name};"
                    " copy both to a folder of your own"
                ) from None
        return connect(path, "mode=ro&immutable=1")
    return db


def _has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


def _recovered(path: Path) -> bool:
    """Takes back the half-written transaction of a writer that was killed; False where nothing can be written."""
    try:
        with closing(connect(path, "mode=rw")) as db:
            db.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    except sqlite3.DatabaseError:
        return False
    return True


@contextmanager
def full_disk_raised(path: Path) -> Iterator[None]:
    """SQLite's ways of telling that the disk is full become an `OSError` with ``errno.ENOSPC``."""
    try:
        yield
    except sqlite3.OperationalError as error:
        full = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_SHMSIZE)
        if getattr(error, "sqlite_errorcode", None) in full:
            raise OSError(errno.ENOSPC, "the disk is full", str(path)) from error
        raise


@contextmanager
def transaction(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """All that is written inside is written, or nothing of it."""
    with full_disk_raised(path):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:  # a full disk has rolled back by itself
                db.execute("ROLLBACK")
            raise
