"""The worker's end of `nas.searching.engines.processes`."""

import os
import pickle
import queue
import threading
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

__all__ = ["serve"]


def serve(socket: int, threads: int) -> None:
    """Does what the driver asks for, until it is gone.

    Args:
        socket: the number of the open file that leads to it.
        threads: of torch.
    """
    with suppress(OSError):  # where memory runs out, the kernel ends a worker, which is replaced, and not the driver
        Path("/proc/self/oom_score_adj").write_text("1000")
    connection = Connection(socket)
    asked: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    # it reads while a trial runs, too: a driver's death is noticed at once
    threading.Thread(target=_listen, args=(connection, asked), daemon=True).start()

    from nas.searching.engines.worker import Worker

    worker = Worker(threads)
    while True:
        connection.send_bytes(_done(worker, asked.get()))


def _listen(connection: Connection, asked: "queue.SimpleQueue[bytes]") -> None:
    while True:
        try:
            asked.put(connection.recv_bytes())
        except (EOFError, OSError):
            os._exit(0)  # nothing is worth an orderly end: a worker may be killed at any moment


def _done(worker: Any, message: bytes) -> bytes:
    """The answer to a question: its number, whether the method returned, and what; or the last line of why not."""
    number, method, arguments = pickle.loads(message)
    try:
        return cloudpickle.dumps((number, True, getattr(worker, method)(*pickle.loads(arguments))))
    except Exception as error:
        return cloudpickle.dumps((number, False, traceback.format_exception_only(error)[-1].strip()))
