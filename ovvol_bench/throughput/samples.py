"""Samples of a time, and what they come to."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ovvol_bench.runs.clock import Clock, Stage
from ovvol_bench.throughput.memory import peak_memory

WHOLE = "whole"


@dataclass(frozen=True)
class Spread:
    """Seconds a clip.

    Attributes:
        samples: one a batch, in the order measured.
    """

    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """Of the samples."""
        return float(np.median(self.samples))

    def to_json(self) -> dict[str, Any]:
        """Median and quartiles, and the samples that they are of."""
        low, high = np.percentile(self.samples, (25, 75)).tolist()
        return {"median": self.median, "low": low, "high": high, "samples": list(self.samples)}


class Laps:
    """Reads a clock after every batch; can be given to ``Conduct`` as its progress.

    Args:
        clock: that measures the stages.
        batch_size: clips of every batch.
        tell: told how far it is.

    Attributes:
        memory: peaks after the last batch, see ``peak_memory``.
    """

    def __init__(
        self, clock: Clock, batch_size: int, tell: Callable[[str], None] = lambda text: None
    ) -> None:
        self._clock, self._batch_size, self._tell = clock, batch_size, tell
        self._marks: list[tuple[float, Mapping[Stage, float]]] = []
        self._processor: list[float] = []
        self.memory: Mapping[str, int | None] = {}

    def __call__(self, name: str, done: int, total: int) -> None:
        """A batch is finished, or at 0 none yet."""
        self._marks.append((time.perf_counter(), self._clock.seconds))
        self._processor.append(time.process_time())
        self._tell(f"clip {done} of {total}")
        if done == total:
            self.memory = peak_memory(self._clock.device)

    def spreads(self, warmup: int) -> dict[str, Spread]:
        """Seconds a clip by stage, and of a whole batch, over the batches after the first ``warmup``."""
        samples: defaultdict[str, list[float]] = defaultdict(list)
        for (start, before), (end, after) in pairwise(self._marks[warmup:]):
            for stage, seconds in {**_by_name(before, after), WHOLE: end - start}.items():
                samples[stage].append(seconds / self._batch_size)
        return {stage: Spread(tuple(values)) for stage, values in samples.items()}

    def cores(self, warmup: int) -> float:
        """Cores that were busy for this process, on average over the batches after the first ``warmup``."""
        busy = self._processor[-1] - self._processor[warmup]
        return busy / (self._marks[-1][0] - self._marks[warmup][0])


def _by_name(before: Mapping[Stage, float], after: Mapping[Stage, float]) -> Mapping[str, float]:
    """Seconds between two readings, by the first word of a stage."""
    passed: defaultdict[str, float] = defaultdict(float)
    for stage, seconds in after.items():
        passed[stage[0]] += seconds - before.get(stage, 0.0)
    return passed


def repeated(work: Callable[[], object], repeats: int, clips: int) -> Spread:
    """Seconds a clip of some work over so many clips, done once to warm up and then ``repeats`` times."""
    work()
    samples = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        samples.append((time.perf_counter() - start) / clips)
    return Spread(tuple(samples))
