"""The worker's end of `nas.searching.engines.processes`."""

import os
import pickle
import queue
import signal
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

__all__ = ["serve"]

LOOK = 1.0  # seconds between two looks for the driver


def serve(socket: int, driver: int, threads: int) -> None:
    """Does what the driver asks for, until it is gone.

    Args:
        socket: the number of the open file that leads to it.
        driver: the number of its process.
        threads: of torch.
    """
    try:
        _serve(Connection(socket), driver, threads)
    except BaseException:  # sys.exit, too
        traceback.print_exc()
    os._exit(1)  # without waiting for threads that a trial has left


def _serve(connection: Connection, driver: int, threads: int) -> None:
    with suppress(OSError):  # where memory runs out, the kernel ends a worker, which is replaced, and not the driver
        Path("/proc/self/oom_score_adj").write_text("1000")
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # it reads while a trial runs, too: a driver's death is noticed at once
    threading.Thread(target=_listen, args=(connection, driver, asked), daemon=True).start()

    from nas.searching.engines.worker import Worker

    worker = Worker(threads)
    while True:
        connection.send_bytes(_done(worker, asked.get()))


def _listen(connection: Connection, driver: int, asked: "queue.SimpleQueue[bytes]") -> None:
    with suppress(EOFError, OSError):
        while os.getppid() == driver:  # a process that it has forked may hold its end of the sockets
            if connection.poll(LOOK):
                asked.put(connection.recv_bytes())
    # Nothing is worth an orderly end: a worker may be killed at any moment. With it ends what its trials have started.
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _done(worker: Any, message: bytes) -> bytes:
    """The answer to a question: its number, whether the method returned, and what; or the last line of why not."""
    number, method, arguments = pickle.loads(message)
    try:
        done, value = True, cloudpickle.dumps(getattr(worker, method)(*pickle.loads(arguments)))
    except Exception as error:
        done, value = False, cloudpickle.dumps(traceback.format_exception_only(error)[-1].strip())
    return pickle.dumps((number, done, value))
