"""Seconds by stage, with the device brought to rest on both sides of every stage."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager

import torch

from ovvol_bench.runs.results import Timing

Stage = tuple[str, ...]
"""What a stage does, first one of ``results.STAGES``, and for which component, as in ("encode", "dino")."""


class Clock:
    """Sums the seconds of each stage; several combinations may share a stage.

    Attributes:
        device: that is brought to rest.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._seconds: defaultdict[Stage, float] = defaultdict(float)
        self._reading = 0.0
        self._started = time.perf_counter()

    @contextmanager
    def measure(self, stage: Stage) -> Iterator[None]:
        """Add the seconds that the block takes to a stage, whether or not it succeeds."""
        self._rest()
        start = time.perf_counter()
        try:
            yield
        finally:
            self._rest()
            self._seconds[stage] += time.perf_counter() - start

    @property
    def seconds(self) -> Mapping[Stage, float]:
        """Of every stage until now, a copy."""
        return dict(self._seconds)

    def count_reading(self, seconds: float) -> None:
        """Add seconds of the processor that reading frames took, beside the other stages."""
        self._reading += seconds

    def timing(self, stages: Collection[Stage], clips: int) -> Timing:
        """The share of one combination.

        Args:
            stages: that the combination needs, shared ones included.
            clips: that were computed for it.

        Returns:
            Seconds of its stages; ``wall`` is the time since the clock was made, less what was spent
            on stages of other combinations: for a matrix of one, the whole loop.
        """
        others = sum(seconds for stage, seconds in self._seconds.items() if stage not in stages)
        mine: defaultdict[str, float] = defaultdict(float)
        for stage in stages:
            mine[stage[0]] += self._seconds.get(stage, 0.0)
        return Timing(clips, time.perf_counter() - self._started - others, mine, self._reading)

    def _rest(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
