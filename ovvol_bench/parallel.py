"""Work in other processes, which end when this one does, whatever ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import Connection, wait
from threading import Thread
from typing import Any, TypeVar

from ovvol_bench.errors import DataError, OvvolError, error_text

Job = TypeVar("Job")
Result = TypeVar("Result")
Report = Callable[[str], None]
"""Takes a line on the progress of some work."""


class ChildError(OvvolError):
    """Work in a fresh process failed; the message is for a result."""


def in_processes(work: Callable[[Job], Result], jobs: Sequence[Job], workers: int) -> Iterator[Result]:
    """Do jobs on several processes; on an error or an interrupt, those under way are killed.

    Args:
        work: a function of a module; what it raises ends everything.
        jobs: picklable.
        workers: processes; 1 works in this one.

    Yields:
        Results as they come, in any order.

    Raises:
        DataError: if a process is killed from outside, as the system does when memory runs out.
    """
    if workers == 1:
        yield from map(work, jobs)
        return
    others = active_children()
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_settle)
    try:
        for future in as_completed([pool.submit(work, job) for job in jobs]):
            yield future.result()
    except BaseException as error:
        for process in active_children():
            if process not in others:
                process.kill()
        if isinstance(error, BrokenProcessPool):
            raise DataError(
                "A worker process was killed, perhaps because memory ran out. Give the same command again, "
                "with fewer --workers; finished work is kept."
            ) from error
        raise
    finally:
        pool.shutdown()


def _settle() -> None:
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then kills this process
    cv2.setNumThreads(1)
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            wait([parent.sentinel])
            os._exit(1)

    Thread(target=watch, daemon=True).start()


def in_fresh_process(work: Callable[[Job, Report], Result], job: Job, report: Report) -> Result:
    """Do a job in a new process, so that one measurement leaves nothing behind for the next.

    Args:
        work: a function of a module.
        job: picklable.
        report: called with the progress of the work while it goes on.

    Returns:
        The answer of the work, pickled on its way.

    Raises:
        ChildError: if the work raises, or its process is killed.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, work, job))
    process.start()
    theirs.close()
    try:
        while True:
            kind, value = ours.recv()
            if kind == "done":
                answer: Result = value
                return answer
            if kind == "failed":
                raise ChildError(value)
            report(value)
    except EOFError:
        process.join()
        raise ChildError(
            f"the measuring process died (exit code {process.exitcode}), perhaps because memory ran out."
            " Try a smaller batch size."
        ) from None
    finally:
        process.kill()
        process.join()


def _serve(messages: Connection[Any, Any], work: Callable[[Job, Report], Result], job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as in `_settle`
    end_with_parent()
    answer: tuple[str, object]
    try:
        answer = "done", work(job, lambda text: messages.send(("report", text)))
    except Exception as error:
        answer = "failed", error_text(error)
    messages.send(answer)
