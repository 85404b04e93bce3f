"""Files of throughput results (schema 1, docs/throughput.md)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json_object, sealed, write_json

SCHEMA = 1
FOLDER = "throughput"
"""Where they lie in a folder of results."""

_LENIENT = ConfigDict(extra="allow")


class SpreadRecord(TypedDict):
    """Median and quartiles of some samples."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    median: float
    low: float
    high: float


class PartRecord(TypedDict):
    """A component as it ran."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    name: str
    options: dict[str, Any]
    weights_sha256: str | None


class MemoryRecord(TypedDict):
    """Bytes: resident once the models were loaded, at the peak, and at the peak of the device."""

    loaded: int
    host: int
    device: int | None


class RowRecord(TypedDict):
    """One configuration."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    encoder: PartRecord
    grouper: PartRecord
    labeler: PartRecord
    size: tuple[int, int]
    resized: bool
    frames: int
    batch_size: int
    fidelity: Literal["fast", "reference"]
    precision: str
    clips_per_s: SpreadRecord
    frames_per_s: SpreadRecord
    seconds: dict[str, SpreadRecord]
    cores: float
    memory: MemoryRecord
    parameters: dict[str, int] | None
    flops: dict[str, int] | None
    matrix_peak: float
    share_of_peak: dict[str, float] | None


class MetricPair(TypedDict):
    """A number at both fidelities; None where it is undefined."""

    reference: float | None
    fast: float | None
    difference: float | None


class AgreementRecord(TypedDict, total=False):
    """How far ``fast`` is from ``reference``; ``error`` in place of numbers where one of them failed."""

    encoder: str
    grouper: str
    labeler: str
    size: tuple[int, int]
    precision: str
    error: str
    clips: int
    patches_same: float
    names_same: float
    patch_cosine: dict[str, float] | None
    metrics: dict[str, MetricPair]


class Failure(TypedDict):
    """What could not be measured, and why."""

    what: str
    error: str


class AskedRecord(TypedDict):
    """How it was measured."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    preset: str
    repeats: int
    warmup: int
    random_weights: bool


class Throughput(TypedDict):
    """One file; fields not named here are allowed and kept."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    throughput: Literal[1]
    asked: AskedRecord
    dataset: dict[str, Any]
    rows: list[RowRecord]
    agreement: list[AgreementRecord]
    failures: list[Failure]
    machine: dict[str, Any]
    fingerprint: str
    load: float
    date: str
    digest: str


_THROUGHPUT = TypeAdapter(Throughput)


def write_throughput(path: Path, result: dict[str, Any]) -> Path:
    """Write a result, atomically; one that is there is replaced.

    Raises:
        SettingError: if the folder can't be written to.
    """
    write_json(path, result)
    return path


def default_name(result: Mapping[str, Any]) -> str:
    """Of a file: preset, method and machine."""
    asked = result["asked"]
    return f"{asked['preset']}-{asked['method']}-{result['fingerprint']}.json"


def is_throughput(document: object) -> bool:
    """Whether a decoded JSON document looks like a throughput result, be it a broken one."""
    return isinstance(document, dict) and "throughput" in document


def parse_throughput(document: object, source: str) -> Throughput:
    """Check a decoded JSON document.

    Args:
        document: what ``json.load`` returned.
        source: file name, for messages.

    Raises:
        DataError: names ``source``, the first wrong field and what was expected.
    """
    advice = "Such files are written by `ovvol-bench bench`; measure again."
    try:
        result = _THROUGHPUT.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "(whole file)"
        raise DataError(
            f"{source}: not a throughput result: field '{field}': {first['msg']}. {advice}"
        ) from None
    assert isinstance(document, dict)
    if sealed(document)["digest"] != result["digest"]:
        raise DataError(
            f"{source}: field 'digest' differs from the content: the file was edited after it was written."
            f" {advice}"
        )
    return result


def load_throughput(paths: Iterable[Path]) -> list[Throughput]:
    """Throughput results of files, and of all files in folders, in the order of their paths.

    Raises:
        DataError: if a path is missing, holds none, or a file is malformed.
    """
    files = [file for path in paths for file in (sorted(path.rglob("*.json")) if path.is_dir() else [path])]
    found = [parse_throughput(read_json_object(file), str(file)) for file in files]
    if not found:
        raise DataError("no throughput results there. Make some with: ovvol-bench bench")
    return found
