"""Workers as processes of this machine: they start at once, and need neither a cluster nor a service beside them.

Each is an interpreter of its own, so that nothing that the caller's program has loaded, locked or started is forked,
and its main module is not imported again. Driver and worker talk over a pair of sockets: a worker whose driver is gone
ends, and a driver whose worker is gone is told so. Each leads a group of processes, with which it ends: what a trial
has started does not outlive its worker.
"""

import fcntl
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from contextlib import ExitStack, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import cloudpickle
import torch

from nas.searching.engines.pool import WorkerLost
from proxy_tasks.cpus import usable_cpus

__all__ = ["Processes"]

KILLED = 10.0  # seconds at most until a process that is killed has ended
MOST_WRITTEN = 1_000_000  # bytes of what a worker has written that are kept from one question to the next
BEGIN = """
import sys
sys.path[:] = {path!r}
from nas.searching.engines.process_worker import serve
serve({socket}, {driver}, {threads})
"""


class _Process:
    """A `nas.searching.engines.pool.Hired`; one that cannot be started is lost from the beginning.

    Args:
        threads: of torch.
    """

    def __init__(self, threads: int):
        self._number = 0  # of the last question
        self._answer: tuple[bool, bytes] | None = None
        self._lost: WorkerLost | None = None
        with ExitStack() as opened:
            try:
                self._start(threads, opened)
            except OSError as error:
                self._lost = WorkerLost(f"no process of {sys.executable!r} can be started: {error.strerror}")
                return
            self._opened = opened.pop_all()

    def _start(self, threads: int, opened: ExitStack) -> None:
        self._errors = opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        flags = fcntl.fcntl(self._errors, fcntl.F_GETFL)
        fcntl.fcntl(self._errors, fcntl.F_SETFL, flags | os.O_APPEND)  # what is written after `_cut` begins the file
        mine, there = Pipe()
        assert isinstance(mine, Connection)
        assert isinstance(there, Connection)
        self.connection = opened.enter_context(mine)
        path = [entry for entry in sys.path if isinstance(entry, str)]
        with there:
            begin = BEGIN.format(path=path, socket=there.fileno(), driver=os.getpid(), threads=threads)
            self.process = subprocess.Popen(
                # -P: until the path is the driver's, no module is looked for in the working directory
                [sys.executable or "", "-P", "-c", begin],
                env={"OMP_NUM_THREADS": str(threads), **os.environ},
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the driver
            )

    def ask(self, method: str, *arguments: Any) -> None:
        self._number += 1
        self._answer = None
        if self._lost is None:
            self._cut()
            with suppress(OSError):  # it is gone: so says the answer
                self.connection.send_bytes(pickle.dumps((self._number, method, cloudpickle.dumps(arguments))))

    def gone(self) -> bool:
        """Whether the process has ended and all that it sent is read, though another may hold its end of the sockets.

        Such a one is a process that a trial has forked.
        """
        if self._lost is None and self._ended() and not self.connection.poll():
            self._lost = WorkerLost(self._why())
        return self._lost is not None

    def listens(self) -> bool:
        """Reads what has come; whether it is the answer, or tells that there will be none.

        It is neither where the question before was given up for the last one.
        """
        try:
            number, done, value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._lost = WorkerLost(self._why())
        else:
            if number == self._number:
                self._answer = done, value
        return self._lost is not None or self._answer is not None

    def answer(self) -> Any:
        while self._lost is None and self._answer is None:
            self.listens()
        if self._answer is None:
            assert self._lost is not None
            raise self._lost
        done, value = self._answer
        try:
            told = pickle.loads(value)
        except Exception as error:  # whatever the user's classes raise
            raise WorkerLost(f"its answer cannot be read: {type(error).__name__}: {error}", raised=True) from error
        if not done:
            raise WorkerLost(told, raised=True)
        return told

    def end(self) -> None:
        if hasattr(self, "_opened"):
            self._killed()
            self._opened.close()

    def _ended(self) -> bool:
        """Whether the process is no more; it is not waited for, so that its number still names its group."""
        try:
            return os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # the caller's program takes no notice of the end of processes
            return True

    def _killed(self) -> int | None:
        """The exit status; None where the kernel does not end the process, which waits for a file system."""
        if self.process.returncode is None:
            with suppress(OSError):  # none of its group is left
                os.killpg(self.process.pid, signal.SIGKILL)
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(KILLED)
        return self.process.returncode

    def _cut(self) -> None:
        """Empties a file of errors that is large; where it is not, the last line tells why a process died."""
        if os.fstat(self._errors.fileno()).st_size > MOST_WRITTEN:
            self._errors.truncate(0)

    def _why(self) -> str:
        """How the process ended, and the last that it wrote."""
        code = self._killed()  # a connection that is closed is of no use
        how = "no answer" if code is None else signal.strsignal(-code) or "" if code < 0 else f"exit status {code}"
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - 4096))
        lines = self._errors.read().decode(errors="replace").split("\n")
        return ": ".join([how, *[line.strip() for line in lines if line.strip()][-1:]])


class Processes:
    """A `nas.searching.engines.pool.Backend`.

    Args:
        workers: how many there will be; they share the processors that this process may use. None has more threads
            of torch than this process, whose user may have limited them (``OMP_NUM_THREADS``).
    """

    def __init__(self, workers: int):
        self._threads = max(1, min(usable_cpus() // workers, torch.get_num_threads()))

    def hired(self) -> _Process:
        """See `nas.searching.engines.pool.Backend`."""
        return _Process(self._threads)

    def answered(self, asked: Collection[_Process], timeout: float) -> list[_Process]:
        """See `nas.searching.engines.pool.Backend`."""
        gone = [worker for worker in asked if worker.gone()]
        workers = {worker.connection: worker for worker in asked if worker not in gone}
        ready = (workers[one] for one in wait(list(workers), 0 if gone else timeout) if isinstance(one, Connection))
        return gone + [worker for worker in ready if worker.listens()]
