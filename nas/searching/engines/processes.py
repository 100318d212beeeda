"""Workers as processes of this machine: they start at once, and need neither a cluster nor a service beside them.

Each is an interpreter of its own, so that nothing that the caller's program has loaded, locked or started is forked,
and its main module is not imported again. Driver and worker talk over a pair of sockets: a worker whose driver is gone
ends, and a driver whose worker is gone is told so.
"""

import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Collection
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

import cloudpickle

from nas.searching.engines.pool import WorkerLost
from proxy_tasks.cpus import usable_cpus

__all__ = ["Processes"]

KILLED = 10.0  # seconds at most until a process that is killed has ended


class _Process:
    """A `nas.searching.engines.pool.Hired`.

    Args:
        threads: of torch.
    """

    def __init__(self, threads: int):
        self.connection, there = Pipe()
        assert isinstance(there, Connection)
        self._number = 0  # of the last question
        self._answer: tuple[bool, Any] | WorkerLost | None = None
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (closed by `end`)
        with there:
            # -P: what lies in the working directory is not imported unless it is on the driver's own path
            begin = f"from nas.searching.engines.process_worker import serve; serve({there.fileno()}, {threads})"
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", begin],
                env={"OMP_NUM_THREADS": str(threads), **os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._errors,
                start_new_session=True,  # Ctrl-C is for the driver
            )

    def ask(self, method: str, *arguments: Any) -> None:
        self._number += 1
        self._answer = None
        with suppress(OSError):  # it is gone: so says the answer
            self.connection.send_bytes(pickle.dumps((self._number, method, cloudpickle.dumps(arguments))))

    def listens(self) -> bool:
        """Reads what has come; whether it is the answer, or tells that there will be none.

        It is neither where the question before was given up for the last one.
        """
        try:
            number, done, value = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            self._answer = WorkerLost(self._why())
        else:
            if number == self._number:
                self._answer = done, value
        return self._answer is not None

    def answer(self) -> Any:
        while self._answer is None:
            self.listens()
        if isinstance(self._answer, WorkerLost):
            raise self._answer
        done, value = self._answer
        if not done:
            raise WorkerLost(value, raised=True)
        return value

    def end(self) -> None:
        self._killed()
        self.connection.close()
        self._errors.close()

    def _killed(self) -> int | None:
        """The exit status; None where the kernel does not end the process, which waits for a file system."""
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(KILLED)
        return self.process.returncode

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
        workers: how many there will be; they share the processors that this process may use.
    """

    def __init__(self, workers: int):
        self._threads = max(1, usable_cpus() // workers)

    def hired(self) -> _Process:
        """See `nas.searching.engines.pool.Backend`."""
        return _Process(self._threads)

    def answered(self, asked: Collection[_Process], timeout: float) -> list[_Process]:
        """See `nas.searching.engines.pool.Backend`."""
        workers = {worker.connection: worker for worker in asked}
        ready = (workers[one] for one in wait(list(workers), timeout) if isinstance(one, Connection))
        return [worker for worker in ready if worker.listens()]
