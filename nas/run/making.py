"""A new run's directory, which appears whole and locked."""

import errno
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nas.folders import FULL
from nas.run.directory import RunRecord, lock_run, write_record
from nas.run.store import RunStore
from search_spaces import InputError

__all__ = ["made_run"]

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)


@contextmanager
def made_run(record: RunRecord, places: Sequence[Path]) -> Iterator[Path | None]:
    """Makes a run at the first of ``places`` where nothing is yet, and holds its lock.

    The directory with ``run.yaml`` and an empty store is there whole and locked or not at all, whatever dies meanwhile.

    Args:
        record: for ``run.yaml``.
        places: in one folder, which is made where it is missing.

    Yields:
        the run's directory, or None where every place is taken.

    Raises:
        InputError: the directory cannot be made.
    """
    partial = places[0].with_name(f".{places[0].name}.{os.getpid()}.partial")
    with ExitStack() as lock:
        try:
            partial.mkdir(parents=True)
            lock.enter_context(lock_run(partial))
            write_record(partial, record)
            RunStore(partial / "trials.db", create=True).close()
            run = next((place for place in places if _renamed(partial, place)), None)
        except BaseException as error:
            shutil.rmtree(partial, ignore_errors=True)
            if not isinstance(error, OSError) or error.errno in FULL:
                raise
            raise InputError(f"cannot make the run directory {places[0]}: {error.strerror}") from error
        if run is None:
            shutil.rmtree(partial)
        yield run


def _renamed(folder: Path, name: Path) -> bool:
    """Whether the folder could take the name; of two processes that want one name at once, one gets it."""
    if name.exists():  # an empty directory would be replaced
        return False
    try:
        folder.rename(name)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    return True
