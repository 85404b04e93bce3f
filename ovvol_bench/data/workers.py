"""A helper process that may hang or crash without taking a run with it."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Any

_LOG_PREFIX = re.compile(r"^\[[\d:]+\] \S+: ")  # decord's errors begin with the time and its source line
_START_LIMIT = 120.0  # a fresh interpreter on a busy machine; no work of the caller is in it


class WorkerError(Exception):
    """A call failed in the helper process, took too long, or ended the process."""


class Worker:
    """One helper process that holds an object and calls its methods, one at a time, first come first served.

    The process starts with the first call, is killed when a call exceeds the time limit or the
    process dies, and is replaced after ``recycle_after`` calls, since some decoders leak memory.

    Args:
        build: makes the object in the helper process; picklable by reference.
        timeout: seconds that one call may take.
        recycle_after: calls before the process is replaced.
    """

    def __init__(self, build: Callable[[], object], timeout: float = 60.0, recycle_after: int = 256) -> None:
        self._build = build
        self._timeout = timeout
        self._recycle_after = recycle_after
        self._calls = 0
        self._line = ThreadPoolExecutor(1)  # unlike a lock it keeps the order: readers dislike going back
        self._process: SpawnProcess | None = None
        self._connection: Connection | None = None

    def call(self, method: str, *args: object) -> Any:
        """Call a method of the object, from any thread; arguments and result are pickled.

        Raises:
            WorkerError: if the method raises, takes longer than the time limit, or the process dies.
        """
        return self._line.submit(self._call, method, args).result()

    def close(self) -> None:
        """Kill the process, if there is one, after the calls in line; the next call starts another."""
        self._line.submit(self._stop).result()

    def _call(self, method: str, args: tuple[object, ...]) -> Any:
        connection = self._connection or self._start()
        try:
            connection.send((method, args))
            done, value = self._receive(connection, self._timeout)
        except WorkerError:
            self._stop()
            raise
        except (EOFError, OSError) as error:
            self._stop()
            raise WorkerError("the decoding process died") from error
        self._calls += 1
        if self._calls >= self._recycle_after:
            self._stop()
        if not done:
            raise WorkerError(value)
        return value

    def _stop(self) -> None:
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
        self._process, self._connection, self._calls = None, None, 0

    def _start(self) -> Connection:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._build), daemon=True)
        process.start()
        theirs.close()
        self._process, self._connection = process, ours
        try:
            self._receive(ours, _START_LIMIT)
        except (WorkerError, EOFError, OSError) as error:
            self._stop()
            raise WorkerError("the decoding process did not start") from error
        return ours

    @staticmethod
    def _receive(connection: Connection, limit: float) -> tuple[bool, Any]:
        if not connection.poll(limit):
            raise WorkerError(f"no answer within {limit:g} s")
        answer: tuple[bool, Any] = connection.recv()
        return answer


def _serve(connection: Connection, build: Callable[[], object]) -> None:
    """Answer calls until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the run, which then kills this process
    _silence_native_output()
    served = build()
    connection.send((True, None))
    while True:
        try:
            method, args = connection.recv()
        except EOFError:
            return
        connection.send(_answer(served, method, args))


def _answer(served: object, method: str, args: tuple[object, ...]) -> tuple[bool, Any]:
    try:
        return True, getattr(served, method)(*args)
    except Exception as error:  # decoders raise anything; it is reported, with the file's name
        return (
            False,
            f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else 'failed'}",
        )


def _silence_native_output() -> None:
    """FFmpeg writes a line a damaged packet to the terminal, across progress bars."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
