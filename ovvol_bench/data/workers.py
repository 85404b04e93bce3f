"""A helper process that may hang or crash without taking a run with it.

Frames come back in memory that both processes share. It has no name, so nothing is left behind however
a process ends, and it is given back with the last array that lies in it.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from socket import socket, socketpair
from threading import Event, Timer, local
from typing import IO, Any, NoReturn

from ovvol_bench.data.memory import keep_freed_memory
from ovvol_bench.data.shared import CAN_SHARE, Answer, pack, unpack

_LOG_PREFIX = re.compile(r"^(\[[\d:]+\] \S+: )+")  # decord's errors begin with the time and its source line
_START_LIMIT = 120.0  # a fresh interpreter on a busy machine; no work of the caller is in it
_MAIN = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from ovvol_bench.data.workers import serve; serve(*map(int, sys.argv[1:]))"
)
_helped = local()


def cpu_seconds() -> float:
    """Seconds of the processor that this thread has taken, and helper processes for it."""
    return time.thread_time() + getattr(_helped, "seconds", 0.0)


class WorkerError(Exception):
    """A call failed in the helper process, took too long, or ended the process."""


class Worker:
    """One helper process that holds an object and calls its methods, one at a time, first come first served.

    The process starts with the first call, is killed when a call exceeds the time limit or the
    process dies, and is replaced after ``recycle_after`` calls, since some decoders leak memory. A copy,
    forked or pickled, has a process of its own; unlike those of ``multiprocessing`` it may be started
    from a daemon, as the reading processes of a training are.

    Args:
        build: makes the object in the helper process; picklable by reference.
        timeout: seconds that one call may take.
        recycle_after: calls before the process is replaced.
    """

    def __init__(self, build: Callable[[], object], timeout: float = 60.0, recycle_after: int = 256) -> None:
        self._build = build
        self._timeout = timeout
        self._recycle_after = recycle_after
        self._begin()

    def __reduce__(self) -> tuple[type[Worker], tuple[object, ...]]:
        return Worker, (self._build, self._timeout, self._recycle_after)

    def call(self, method: str, *args: object) -> Any:
        """Call a method of the object, from any thread; arguments and result are pickled, arrays are shared.

        Raises:
            WorkerError: if the method raises, takes longer than the time limit, or the process dies.
        """
        if self._owner != os.getpid():  # forked: the line and the helper are the original's
            self._begin()
        answer: Answer = self._line.submit(self._call, method, args).result()
        _helped.seconds = getattr(_helped, "seconds", 0.0) + answer.cpu_seconds
        if not answer.done:
            raise WorkerError(answer.value)
        return answer.value

    def close(self) -> None:
        """Kill the process, if there is one, after the calls in line; the next call starts another."""
        if self._owner == os.getpid():
            self._line.submit(self._stop).result()

    def _begin(self) -> None:
        self._owner = os.getpid()
        self._calls = 0
        self._line = ThreadPoolExecutor(1)  # unlike a lock it keeps the order: readers dislike going back
        self._helper: _Helper | None = None

    def _call(self, method: str, args: tuple[object, ...]) -> Answer:
        helper = self._helper or self._start()
        try:
            helper.send((method, args))
            answer = helper.receive(self._timeout)
        except WorkerError:
            self._stop()
            raise
        self._calls += 1
        if self._calls >= self._recycle_after:
            self._stop()
        return answer

    def _stop(self) -> None:
        if self._helper is not None:
            self._helper.kill()
        self._helper, self._calls = None, 0

    def _start(self) -> _Helper:
        self._helper = _Helper()
        try:
            self._helper.send(sys.path)
            self._helper.send(self._build)
            self._helper.receive(_START_LIMIT)
        except WorkerError as error:
            self._stop()
            raise WorkerError("the decoding process did not start") from error
        return self._helper


class _Helper:
    """The process and what passes to and from it."""

    def __init__(self) -> None:
        self._memory: socket | None = None
        theirs: socket | None = None
        if CAN_SHARE:
            self._memory, theirs = socketpair()
        passed = (theirs.fileno(),) if theirs else ()
        self._process = subprocess.Popen(
            (sys.executable, "-P", "-c", _MAIN, *map(str, passed)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=passed,
        )
        if theirs:
            theirs.close()
        self.kill = weakref.finalize(self, _end, self._process, self._memory, os.getpid())

    def send(self, value: object) -> None:
        try:
            pickle.dump(value, _pipe(self._process.stdin))
            _pipe(self._process.stdin).flush()
        except OSError as error:
            raise WorkerError("the decoding process died") from error

    def receive(self, limit: float) -> Answer:
        """What the process sends next; it is killed if that takes longer than ``limit`` seconds."""
        late = Event()
        timer = Timer(limit, self._expire, [late])
        timer.start()
        try:
            return unpack(_pipe(self._process.stdout), self._memory)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            reason = f"no answer within {limit:g} s" if late.is_set() else "the decoding process died"
            raise WorkerError(reason) from error
        finally:
            timer.cancel()
            timer.join()

    def _expire(self, late: Event) -> None:
        late.set()
        self._process.kill()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise WorkerError("the decoding process has no pipe")
    return pipe


def _end(process: subprocess.Popen[bytes], memory: socket | None, owner: int) -> None:
    if os.getpid() == owner:  # a forked copy leaves the original's process alone
        with process:  # closes the pipes and waits
            process.kill()
        if memory:
            memory.close()


def serve(memory: int | None = None) -> NoReturn:
    """Answer calls until the other side is gone; the main function of a helper process.

    Args:
        memory: descriptor of the socket that shared memory is passed through; None: there is none.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # are for the run, which kills this process when it ends
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    calls, answers = sys.stdin.buffer, _private_output()
    passing = None if memory is None else socket(fileno=memory)
    served = pickle.load(calls)()  # noqa: S301 - from the process that started this one
    answer = Answer(True, None, 0.0)
    while True:
        pack(answer, answers, passing)
        try:
            method, args = pickle.load(calls)  # noqa: S301
        except EOFError:
            sys.exit()
        answer = _answer(served, method, args)


def _answer(served: object, method: str, args: tuple[object, ...]) -> Answer:
    before = time.process_time()
    try:
        done, value = True, getattr(served, method)(*args)
    except Exception as error:  # decoders raise anything; it is reported, with the file's name
        done, value = False, error_line(error)
    return Answer(done, value, time.process_time() - before)


def error_line(error: Exception) -> str:
    """Kind of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {_LOG_PREFIX.sub('', lines[0]) if lines else 'failed'}"


def _private_output() -> IO[bytes]:
    """The way back for answers; what native code prints goes nowhere.

    FFmpeg writes a line a damaged packet to the terminal, across progress bars.
    """
    answers = os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)
    return answers
