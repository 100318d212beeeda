"""The lock that keeps two processes from writing one run."""

import contextlib
import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.folders import FULL
from search_spaces.errors import InputError

__all__ = ["lock_run"]

# What a file system answers that has no `flock`: network file systems do, and some of them only now and then.
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL, errno.EIO)


@contextmanager
def lock_run(run: Path) -> Iterator[None]:
    """Holds the folder of a run for this process, also where it is renamed meanwhile.

    The lock is ``flock`` on the file ``.lock``, which ends with the process. On a file system without it the lock is
    the file ``.lock.held``, which exists as long as it is held; one that a process of this machine left behind as it
    died is taken over.

    Raises:
        InputError: another process has the run, or the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            file = stack.enter_context((run / ".lock").open("a+", encoding="utf-8"))
        except OSError as error:
            if error.errno in FULL:
                raise
            raise InputError(f"cannot lock the run {run}: {error.strerror}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise InputError(f"the run {run} is being written by process {file.read() or 'unknown'}") from error
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise
            stack.enter_context(_lock_file(run))
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


@contextmanager
def _lock_file(run: Path) -> Iterator[None]:
    name = ".lock.held"
    folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY)  # follows the folder where it is renamed
    try:
        _clear_dead(folder, name)
        try:
            file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=folder)
        except FileExistsError as error:
            host, process = _holder(folder, name)
            raise InputError(
                f"the run {run} is being written by process {process} on {host}; if that is gone, delete {run / name}"
            ) from error
        try:
            os.write(file, f"{socket.gethostname()}:{os.getpid()}".encode())
            yield
        finally:
            os.close(file)
            with contextlib.suppress(OSError):  # the run may be gone
                os.unlink(name, dir_fd=folder)
    finally:
        os.close(folder)


def _holder(folder: int, name: str) -> tuple[str, str]:
    """Machine and process that made the lock file; ``("unknown", "unknown")`` where it is empty or just gone."""
    try:
        file = os.open(name, os.O_RDONLY, dir_fd=folder)
    except FileNotFoundError:
        return "unknown", "unknown"
    with open(file, encoding="utf-8") as text:
        host, colon, process = text.read().rpartition(":")
    return (host, process) if colon else ("unknown", "unknown")


def _clear_dead(folder: int, name: str) -> None:
    """Removes the lock file of a process of this machine that is no more."""
    host, process = _holder(folder, name)
    if host != socket.gethostname() or not process.isdecimal() or _is_alive(int(process)):
        return
    dead = f"{name}.{os.getpid()}"
    with contextlib.suppress(FileNotFoundError):  # another process takes it over at the same time
        os.rename(name, dead, src_dir_fd=folder, dst_dir_fd=folder)
        if _holder(folder, dead) == (host, process):
            os.unlink(dead, dir_fd=folder)
        else:  # that other process has it already: given back
            os.rename(dead, name, src_dir_fd=folder, dst_dir_fd=folder)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        return True
    return True
