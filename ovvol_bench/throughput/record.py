"""Files that ``bench`` writes: their schema, docs/throughput.md, and reading them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ovvol_bench.errors import DataError
from ovvol_bench.fidelity import Fidelity
from ovvol_bench.files import read_json_object
from ovvol_bench.results.schema import Fields, Machine, PartRecord, check_digest, validated

SCHEMA = 1
FOLDER = "throughput"
"""Place of such files in a folder of results."""

_ADVICE = "Such files are written by `ovvol-bench bench`; measure again."


class Spread(Fields):
    """Median and quartiles."""

    median: float
    low: float
    high: float
    samples: list[float] = Field(default_factory=list)
    """One a batch, in the order measured; rates have none of their own."""

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Take median and quartiles of samples."""
        low, median, high = np.percentile(samples, (25, 50, 75)).tolist()
        return cls(median=median, low=low, high=high, samples=list(samples))

    @property
    def inverse(self) -> Spread:
        """Rates of these seconds."""
        return Spread(median=1 / self.median, low=1 / self.high, high=1 / self.low)


class Memory(Fields):
    """Bytes: resident once the models were loaded, at the peak, and at the peak of the device."""

    loaded: int
    host: int
    device: int | None


class Row(Fields):
    """Speed of one configuration."""

    encoder: PartRecord
    grouper: PartRecord
    labeler: PartRecord
    size: tuple[int, int]
    resized: bool
    frames: int
    batch_size: int
    fidelity: Fidelity
    precision: str
    clips_per_s: Spread
    frames_per_s: Spread
    seconds: dict[str, Spread]
    cores: float
    memory: Memory
    parameters: dict[str, int] | None
    flops: dict[str, int] | None
    matrix_peak: float
    share_of_peak: dict[str, float] | None

    @property
    def parts(self) -> tuple[PartRecord, PartRecord, PartRecord]:
        """Encoder, grouper and labeler."""
        return self.encoder, self.grouper, self.labeler

    @property
    def method(self) -> str:
        """Names of encoder, grouper and labeler."""
        return " + ".join(part.name for part in self.parts)


class MetricPair(Fields):
    """Number at both fidelities; None where it is undefined."""

    reference: float | None
    fast: float | None
    difference: float | None


class Agreement(Fields):
    """Distance of ``fast`` from ``reference``; ``error`` in place of numbers where one of them failed."""

    encoder: str
    grouper: str
    labeler: str
    size: tuple[int, int]
    precision: str
    error: str | None = None
    clips: int = 0
    patches_same: float | None = None
    names_same: float | None = None
    patch_cosine: dict[str, float] | None = None
    metrics: dict[str, MetricPair] = Field(default_factory=dict)

    @property
    def method(self) -> str:
        """Names of encoder, grouper and labeler."""
        return f"{self.encoder} + {self.grouper} + {self.labeler}"


class Failure(Fields):
    """Work that could not be measured, and why."""

    what: str
    error: str


class Asked(Fields):
    """Settings of the measurement."""

    preset: str
    repeats: int
    warmup: int
    random_weights: bool


class Frames(Fields):
    """Dataset whose frames were used."""

    name: str
    fingerprint: str | None = None


class Threads(Machine):
    """Machine, and how many threads were used."""

    threads: int | None = None

    @property
    def text(self) -> str:
        """The machine in words."""
        return f"{super().text}, {self.threads} threads" if self.threads else super().text


class Throughput(Fields):
    """Content of one file."""

    throughput: Literal[1]
    asked: Asked
    dataset: Frames
    rows: list[Row]
    agreement: list[Agreement]
    failures: list[Failure]
    machine: Threads
    fingerprint: str
    """Of the machine."""
    load: float
    date: str
    digest: str


def default_name(result: Mapping[str, Any]) -> str:
    """Name a file after preset, method and machine."""
    asked = result["asked"]
    return f"{asked['preset']}-{asked['method']}-{result['fingerprint']}.json"


def is_throughput(document: object) -> bool:
    """Tell whether a decoded JSON document looks like a throughput result, be it a broken one."""
    return isinstance(document, dict) and "throughput" in document


def parse_throughput(document: dict[str, Any], source: str) -> Throughput:
    """Check a decoded JSON document.

    Args:
        document: what ``json.load`` returned.
        source: file name, for messages.

    Raises:
        DataError: names ``source``, the first wrong field and what was expected.
    """
    result = validated(Throughput, document, f"{source}: not a throughput result", _ADVICE)
    check_digest(document, source, _ADVICE)
    return result


def load_throughput(paths: Iterable[Path]) -> list[Throughput]:
    """Read throughput results of files, and of all files in folders, in the order of their paths.

    Raises:
        DataError: if a path is missing, holds none, or a file is malformed.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    found = [parse_throughput(read_json_object(file), str(file)) for file in files]
    if not found:
        raise DataError("no throughput results there. Make some with: ovvol-bench bench")
    return found
