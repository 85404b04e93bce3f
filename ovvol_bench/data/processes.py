"""Work spread over processes that end when this one does, whatever ends it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.connection import wait
from threading import Thread
from typing import TypeVar

from ovvol_bench.errors import DataError

Job = TypeVar("Job")
Result = TypeVar("Result")


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
    """Leave Ctrl-C to the parent, end with it, and use one thread."""
    import cv2

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
    end_with_parent()


def end_with_parent() -> None:
    """Let this process end when the one that started it does, however that ends."""
    Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
