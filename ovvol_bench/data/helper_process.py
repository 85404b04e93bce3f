"""A helper process that decodes, and that may hang or crash without taking a run with it.

Decoders run in a process of their own, not in threads with time limits, and not in PyAV alone, since

* decord, which reads mp4s quickest, hangs or crashes on some damaged files, in native code that no thread can
  end;
* memory of decord grows while a reader lives: the process is replaced from time to time;
* FFmpeg and OpenCV print a line a damaged packet, which would go across progress bars.

The process is started by ``subprocess``, not by ``multiprocessing``, on which the pools of pebble and loky
build: the reading processes of a training are daemons, which may have no children there, and a script without
a main guard would run once more.

Frames come back in a file in memory that both processes hold open: through a pipe they take twice the CPU
time, and the processes wait for each other a dozen times a clip. It has no name, so nothing is left behind.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import wait
from subprocess import PIPE, Popen
from tempfile import TemporaryFile
from threading import local
from typing import Any, NoReturn

import numpy as np

from ovvol_bench.tuning import keep_freed_memory

_LOG_PREFIX = re.compile(r"^(\[[\d:]+\] \S+: )+")  # decord's errors begin with the time and its source line
_START_LIMIT = 60.0  # a fresh interpreter on a busy machine; no work of the caller is in it
_MAIN = (
    "import pickle, sys; sys.path[:] = pickle.load(sys.stdin.buffer); "
    "from ovvol_bench.data.helper_process import serve; serve(int(sys.argv[1]))"
)
_helped = local()

Answer = tuple[bool, Any, float]
"""Success of a call, its value or the text of its error, and the CPU seconds that it took in the process."""


def cpu_seconds() -> float:
    """Return the CPU seconds that this thread has taken, and helper processes for it."""
    return time.thread_time() + getattr(_helped, "seconds", 0.0)


def error_line(error: Exception) -> str:
    """Kind of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {_LOG_PREFIX.sub('', lines[0]) if lines else 'failed'}"


class HelperError(Exception):
    """A call failed in the helper process, took too long, or ended the process."""


class HelperProcess:
    """A process that holds an object and calls its methods, one at a time, first come first served.

    It starts with the first call, is killed when a call exceeds the time limit, and is replaced when it dies
    or has answered ``recycle_after`` calls. A copy, forked or pickled, has a process of its own.

    Args:
        build: makes the object in the process; picklable by reference.
        timeout: seconds that a call may take.
        recycle_after: calls before the process is replaced.
    """

    def __init__(self, build: Callable[[], object], timeout: float = 60.0, recycle_after: int = 256) -> None:
        self._build = build
        self._timeout = timeout
        self._recycle_after = recycle_after
        self._begin()

    def __reduce__(self) -> tuple[type[HelperProcess], tuple[object, ...]]:
        return HelperProcess, (self._build, self._timeout, self._recycle_after)

    def _begin(self) -> None:
        self._owner, self._calls = os.getpid(), 0
        self._line = ThreadPoolExecutor(1)  # unlike a lock it keeps the order: readers dislike going back
        self._process: Popen[bytes] | None = None
        self._memory = -1

    def call(self, method: str, *args: object) -> Any:
        """Call a method of the object, from any thread; arguments and result are pickled.

        Raises:
            HelperError: if the method raises, takes longer than the time limit, or the process dies.
        """
        if self._owner != os.getpid():  # forked: the line and the process are the original's
            self._begin()
        done, value, seconds = self._line.submit(self._call, method, args).result()
        _helped.seconds = getattr(_helped, "seconds", 0.0) + seconds
        if not done:
            raise HelperError(value)
        return value

    def close(self) -> None:
        """Kill the process, if there is one, after the calls in line; the next call starts another."""
        if self._owner == os.getpid():
            self._line.submit(self._stop).result()

    def _call(self, method: str, args: tuple[object, ...]) -> Answer:
        try:
            process = self._process or self._start()
            _send(process, (method, args))
            answer = _receive(process, self._memory, self._timeout)
        except HelperError:
            self._stop()
            raise
        self._calls += 1
        if self._calls >= self._recycle_after:
            self._stop()
        return answer

    def _start(self) -> Popen[bytes]:
        if hasattr(os, "memfd_create"):
            memory = os.memfd_create("frames")
        else:
            with TemporaryFile() as file:
                memory = os.dup(file.fileno())
        command = (sys.executable, "-P", "-c", _MAIN, str(memory))
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, pass_fds=[memory])
        self._memory = memory
        self._end = weakref.finalize(self, _end, self._process, memory, os.getpid())
        try:
            for value in (sys.path, self._build):
                _send(self._process, value)
            _receive(self._process, memory, _START_LIMIT)
        except HelperError as error:
            raise HelperError("the decoding process did not start") from error
        return self._process

    def _stop(self) -> None:
        if self._process is not None:
            self._end()
        self._process, self._calls = None, 0


def _end(process: Popen[bytes], memory: int, owner: int) -> None:
    if os.getpid() == owner:  # a forked copy leaves the original's process alone
        with process:  # closes the pipes and waits
            process.kill()
        os.close(memory)


def _send(process: Popen[bytes], value: object) -> None:
    assert process.stdin is not None
    try:
        pickle.dump(value, process.stdin)
        process.stdin.flush()
    except OSError as error:
        raise HelperError("the decoding process died") from error


def _receive(process: Popen[bytes], memory: int, limit: float) -> Answer:
    """Wait for an answer, at most ``limit`` seconds; its arrays are in ``memory``, an open file."""
    assert process.stdout is not None
    if not wait([process.stdout.fileno()], limit):
        raise HelperError(f"no answer within {limit:g} s")
    try:
        pickled, sizes = pickle.load(process.stdout)  # noqa: S301 - from our own helper
        buffers, place = [], 0
        for size in sizes:
            buffers.append(np.empty(size, np.uint8))
            place += _whole(os.preadv, memory, buffers[-1], place)
        answer: Answer = pickle.loads(pickled, buffers=buffers)  # noqa: S301
    except (EOFError, OSError, pickle.UnpicklingError) as error:
        raise HelperError("the decoding process died") from error
    return answer


def _whole(move: Callable[..., int], memory: int, buffer: Any, place: int) -> int:
    """Read or write a buffer at a place of an open file, in as many pieces as the system takes for it."""
    rest = memoryview(buffer)
    while rest and (moved := move(memory, [rest], place)):
        place, rest = place + moved, rest[moved:]
    return len(memoryview(buffer))


def serve(memory: int) -> NoReturn:
    """Answer calls until the other side is gone; the main function of a helper process.

    Args:
        memory: open file that arrays are returned in.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # are for the run, which kills this process when it ends
        signal.signal(number, signal.SIG_IGN)
    keep_freed_memory()
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):  # so that what native code prints doesn't get among the answers
        os.dup2(null, stream)
    os.close(null)
    served = pickle.load(calls)()  # noqa: S301 - from the process that started this one
    answer: Answer = True, None, 0.0
    while True:
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(answer, 5, buffer_callback=buffers.append)
        raw = [buffer.raw() for buffer in buffers]
        place = 0
        for each in raw:
            place += _whole(os.pwritev, memory, each, place)
        pickle.dump((pickled, [each.nbytes for each in raw]), answers)
        answers.flush()
        del answer, buffers, raw  # the next clip takes their memory
        try:
            method, args = pickle.load(calls)  # noqa: S301
        except EOFError:
            sys.exit()
        before = time.process_time()
        try:
            done, value = True, getattr(served, method)(*args)
        except Exception as error:  # decoders raise anything; it is reported, with the file's name
            done, value = False, error_line(error)
        answer = done, value, time.process_time() - before
        del value
