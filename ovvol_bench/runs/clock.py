"""Stages of a matrix, and the seconds that each takes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:  # scoring reads `Timing` and loads no torch
    import torch


@dataclass(frozen=True)
class Stage:
    """Step of a run. Combinations that have an equal stage share it.

    Attributes:
        name: what results call it; the fields of a stage tell it from others of its name.
    """

    name: ClassVar[str]


@dataclass(frozen=True)
class DecodeStage(Stage):
    """Wait for the next clip."""

    name = "decode"


@dataclass(frozen=True)
class EncodeStage(Stage):
    """Features of a batch."""

    name = "encode"
    encoder: str


@dataclass(frozen=True)
class GroupStage(Stage):
    """Slot masks of a batch, drawn with one seed."""

    name = "group"
    encoder: str
    grouper: str
    seed: int


@dataclass(frozen=True)
class LabelStage(Stage):
    """Embeddings of a batch: of a `Labeler` alone, on an encoder's features, or on the slots of a run."""

    name = "label"
    labeler: str
    encoder: str | None = None
    run: str | None = None


@dataclass(frozen=True)
class NameStage(Stage):
    """Names and boxes of one run."""

    name = "name"
    run: str


@dataclass(frozen=True)
class StoreStage(Stage):
    """Shards of one run."""

    name = "store"
    run: str


STAGES = tuple(
    kind.name for kind in (DecodeStage, EncodeStage, GroupStage, LabelStage, NameStage, StoreStage)
)


@dataclass(frozen=True)
class Timing:
    """Speed of the clips that one session computed.

    Attributes:
        clips: fewer than the run's if it was continued.
        wall: seconds of the loop that belong to this combination.
        seconds: by name of a stage; ``decode`` is the time waited for frames.
        reading: CPU seconds of reading frames, all workers together; what was not waited for went on beside
            the other stages.
    """

    clips: int = 0
    wall: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    reading: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the ``timing`` object of a result."""
        return {
            "clips": self.clips,
            "clips_per_s": self.clips / self.wall if self.clips and self.wall else None,
            "seconds": {name: round(self.seconds.get(name, 0.0), 4) for name in STAGES},
            "reading_cpu_s": round(self.reading, 4),
        }


class Clock:
    """Sums the seconds of each stage; the device is at rest on both sides of a stage.

    Attributes:
        device: where components run.
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
        """Seconds of every stage until now, a copy."""
        return dict(self._seconds)

    def count_reading(self, seconds: float) -> None:
        """Add CPU seconds that reading frames took beside the other stages."""
        self._reading += seconds

    def timing(self, stages: Collection[Stage], clips: int) -> Timing:
        """Return the share of one combination.

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
            mine[stage.name] += self._seconds.get(stage, 0.0)
        return Timing(clips, time.perf_counter() - self._started - others, mine, self._reading)

    def _rest(self) -> None:
        # Kernels are queued: without a wait the seconds of one stage would be counted for the next.
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)
