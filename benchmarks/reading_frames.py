"""Frames a second and processors busy of every way to read clips, at one and two workers.

OMP_NUM_THREADS=1 python benchmarks/reading_frames.py [FRAMES [ROUNDS [FOLDER]]]

FRAMES of each video (240 by default), the fastest of ROUNDS (3); inputs are made in FOLDER and kept there, or
go with the temporary folder they are made in.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
from readers import WAYS, Read, Way, clips, write_inputs
from tabulate import tabulate

from ovvol_bench.data.helper_process import cpu_seconds
from ovvol_bench.tuning import keep_freed_memory

WORKERS = (1, 2)


def measure(way: Way, path: Path, pattern: str, count: int, workers: int) -> tuple[float, float]:
    """Seconds by the clock, and of the processor, decoding process included, that all clips take."""
    todo = clips(pattern, count)
    readers = [way.open(path, count)] if way.shared else [way.open(path, count) for _ in range(workers)]
    with ThreadPoolExecutor(workers) as threads:
        list(threads.map(lambda read: read(todo[0]), readers))
        start, own = time.perf_counter(), time.process_time()
        if way.shared:  # as in a run: clips go in order to whoever is free
            helped = sum(threads.map(lambda places: _helped(readers[0], [places]), todo))
        else:  # a worker has a part of the video of its own
            parts = [todo[len(todo) * k // workers : len(todo) * (k + 1) // workers] for k in range(workers)]
            helped = sum(threads.map(_helped, readers, parts))
        return time.perf_counter() - start, time.process_time() - own + helped


def _helped(read: Read, todo: list[range]) -> float:
    """Read clips; seconds of the processor that another process took for it."""
    before = cpu_seconds() - time.thread_time()
    for places in todo:
        read(places)
    return cpu_seconds() - time.thread_time() - before


def main(frames: str = "240", rounds: str = "3", folder: str | None = None) -> None:
    """Print a table of JPEGs and one of mp4s."""
    cv2.setNumThreads(1)
    keep_freed_memory()
    with TemporaryDirectory() as temporary:
        inputs = write_inputs(Path(folder or temporary), int(frames))
        for of_jpegs in (True, False):
            rows = []
            for way in WAYS:
                if way.of_jpegs == of_jpegs and way.installed:
                    rows.append(_row(way, inputs, int(frames), int(rounds)))
            sys.stdout.write(tabulate(rows, headers="keys", disable_numparse=True) + "\n\n")


def _row(way: Way, inputs: dict[str, Path], count: int, rounds: int) -> dict[str, str]:
    row = {"frames/s (processors busy)": way.name}
    for name, path in inputs.items():
        if (name == "jpeg") != way.of_jpegs:
            continue
        for pattern in ("sequential",) if way.of_jpegs else ("sequential", "random"):
            for workers in WORKERS:
                found = [measure(way, path, pattern, count, workers) for _ in range(rounds)]
                seconds, processor = min(found)
                total = sum(map(len, clips(pattern, count)))
                title = f"{name} {pattern}, {workers}"
                row[title] = f"{total / seconds:.0f} ({processor / seconds:.2f})"
    return row


if __name__ == "__main__":
    main(*sys.argv[1:])
