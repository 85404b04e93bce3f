"""Prefetch: clips are decoded while models compute."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from ovvol_bench.data.base import Dataset
from ovvol_bench.data.helper_process import cpu_seconds
from ovvol_bench.errors import DecodeError, calling
from ovvol_bench.types import Clip

MOST_WORKERS = 16
"""Threads that are started unasked: two clips wait for each, of 9 MB at 224 x 400."""


def processors() -> int:
    """Count the processors that this process may use, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prefetch(
    dataset: Dataset,
    indices: Iterable[int],
    workers: int | None = None,
    spent: Callable[[float], None] = lambda seconds: None,
) -> Iterator[tuple[int, Clip | DecodeError]]:
    """Yield clips in the order of ``indices`` while the next ones are being decoded.

    At most two clips a worker wait, so memory stays bounded. Leaving the loop early, or an error in it,
    stops the decoding.

    Args:
        dataset: to read from.
        indices: clips, in the order wanted.
        workers: threads that decode, from 1; None: a processor each, up to ``MOST_WORKERS``.
        spent: callback, receives the CPU seconds spent reading each clip, helper processes included.

    Yields:
        (index, clip), or (index, error) for a clip whose frames can't be read; other errors are raised.
    """
    workers = workers or min(processors(), MOST_WORKERS)
    waiting: deque[tuple[int, Future[tuple[Clip | DecodeError, float]]]] = deque()
    remaining = iter(indices)
    # Threads do: OpenCV releases the GIL while it decodes, and video files are decoded in another process.
    executor = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        waiting.extend(
            (index, executor.submit(_clip, dataset, index)) for index in islice(remaining, 2 * workers)
        )
        while waiting:
            index, future = waiting.popleft()
            outcome, seconds = future.result()
            spent(seconds)
            waiting.extend((index, executor.submit(_clip, dataset, index)) for index in islice(remaining, 1))
            yield index, outcome
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _clip(dataset: Dataset, index: int) -> tuple[Clip | DecodeError, float]:
    """Return a clip, or why it can't be read, and the CPU seconds that it took."""
    before = cpu_seconds()
    outcome: Clip | DecodeError
    try:
        with calling(f"dataset {type(dataset).__name__}"):
            outcome = dataset.clip(index)
    except DecodeError as error:
        outcome = error.with_traceback(None)  # a circle through this frame would keep a clip's frames
    return outcome, cpu_seconds() - before
