"""Decoding overlapped with compute."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

from ovvol_bench.benchmark import Dataset
from ovvol_bench.errors import DecodeError
from ovvol_bench.types import Clip


def prefetch(
    dataset: Dataset, indices: Iterable[int], workers: int = 2
) -> Iterator[tuple[int, Clip | DecodeError]]:
    """Yield clips in the order of ``indices`` while the next ones are being decoded.

    Threads do: OpenCV lets go of the interpreter while it decodes, and video files are decoded in
    another process. At most two clips a worker wait, so memory stays bounded. Leaving the loop early, or
    an error in it, stops the decoding.

    Args:
        dataset: to read from.
        indices: clips, in the order wanted.
        workers: threads that decode; from 1.

    Yields:
        (index, clip), or (index, error) for a clip whose frames can't be read; other errors are raised.
    """
    waiting: deque[tuple[int, Future[Clip | DecodeError]]] = deque()
    remaining = iter(indices)
    executor = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        waiting.extend(
            (index, executor.submit(_clip, dataset, index)) for index in islice(remaining, 2 * workers)
        )
        while waiting:
            index, future = waiting.popleft()
            outcome = future.result()
            waiting.extend((index, executor.submit(_clip, dataset, index)) for index in islice(remaining, 1))
            yield index, outcome
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _clip(dataset: Dataset, index: int) -> Clip | DecodeError:
    try:
        return dataset.clip(index)
    except DecodeError as error:
        return error
