"""Schema of result files (schema 1, docs/results.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json, sealed

SCHEMA = 1
COMPONENTS = ("encoder", "grouper", "labeler")

_LENIENT = ConfigDict(extra="allow")


class DatasetRecord(TypedDict):
    """What was scored on."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    name: str
    fingerprint: str
    options: NotRequired[dict[str, Any]]
    clips: NotRequired[int | None]
    frames: NotRequired[int | None]


class PartRecord(TypedDict):
    """An encoder, grouper or labeler as it ran."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    name: str
    version: NotRequired[str | None]
    options: NotRequired[dict[str, Any]]
    weights_sha256: NotRequired[str | None]


class MethodRecord(TypedDict):
    """What made the predictions that another program wrote, in place of encoder, grouper and labeler."""

    name: str


class FileRecord(TypedDict):
    """A file of predictions; its digest."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    name: str
    sha256: str


class Score(TypedDict):
    """One metric; ``value`` is None where it is undefined."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    value: float | None
    count: int
    higher_is_better: NotRequired[bool]


class TermsRecord(TypedDict):
    """A number by video; see ``metrics.by_video.Terms``."""

    sums: list[float]
    counts: list[float]


class VideosRecord(TypedDict):
    """What intervals are made of: names of the videos, and the terms of every number that has them."""

    names: list[str]
    terms: dict[str, TermsRecord]


class Coverage(TypedDict, total=False):
    """Clips asked for, clips done, frames of these that could not be read, and why the others were not."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    clips: int
    done: int
    frames: int
    unread: list[str]
    skipped: dict[str, int]


class Timing(TypedDict, total=False):
    """Speed on the machine that is named beside it."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    clips_per_s: float | None


class Result(TypedDict):
    """One result file; fields not named here are allowed and kept."""

    __pydantic_config__ = _LENIENT  # type: ignore[misc]
    schema: Literal[1]
    status: Literal["done", "failed"]
    id: str
    dataset: DatasetRecord
    encoder: NotRequired[PartRecord]
    grouper: NotRequired[PartRecord]
    labeler: NotRequired[PartRecord]
    method: NotRequired[MethodRecord]
    file: NotRequired[FileRecord]
    metrics: dict[str, Score]
    error: NotRequired[str | None]
    naming: NotRequired[dict[str, Any]]
    seed: NotRequired[int | None]
    seeds: NotRequired[list[int] | None]
    consensus: NotRequired[list[int] | None]
    precision: NotRequired[str]
    fidelity: NotRequired[str]
    videos: NotRequired[VideosRecord]
    coverage: NotRequired[Coverage]
    timing: NotRequired[Timing]
    machine: NotRequired[dict[str, Any]]
    date: NotRequired[str | None]
    limit: NotRequired[int | None]
    scoring: NotRequired[list[dict[str, Any]]]
    digest: NotRequired[str]


_RESULT = TypeAdapter(Result)


def read_result(path: Path) -> Result:
    """Read one result file.

    Raises:
        DataError: if it can't be read, is malformed, of a newer schema, or was edited.
    """
    return parse_result(read_json(path, strict=True), str(path))


def parse_result(document: object, source: str) -> Result:
    """Check one decoded JSON document against schema 1.

    Args:
        document: what ``json.load`` returned.
        source: file name, for messages.

    Raises:
        DataError: names ``source``, the first wrong field and what was expected.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise DataError(
            f"{source}: field 'schema': got {schema}, this version reads up to {SCHEMA}. Update ovvol-bench."
        )
    try:
        result = _RESULT.validate_python(document)
    except ValidationError as error:
        raise DataError(_explain(error, source)) from None
    found = [kind for kind in COMPONENTS if kind in result]
    if len(found) not in (0, len(COMPONENTS)) or bool(found) == ("method" in result and "file" in result):
        raise DataError(
            f"{source}: not a result: expected the fields {', '.join(COMPONENTS)}, or method and file "
            "in their place. Results are written by `ovvol-bench run` or `eval`; write this one again."
        )
    _check_digest(document, source)
    return result


def _check_digest(document: object, source: str) -> None:
    assert isinstance(document, dict)
    if "digest" in document and sealed(document)["digest"] != document["digest"]:
        raise DataError(
            f"{source}: field 'digest' differs from the content: the file was edited after it was written. "
            "Results are never edited; score the run again with `ovvol-bench eval`, or run it again."
        )


def _explain(error: ValidationError, source: str) -> str:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
    others = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    advice = "Results are written by `ovvol-bench run` or `eval`; write this one again."
    return f"{source}: not a result: field '{field}': {first['msg']}{others}. {advice}"


def is_reference(document: object) -> bool:
    """Whether a decoded JSON document holds published numbers (see ``references``)."""
    return isinstance(document, dict) and document.get("reference") is True


def claims_to_be_result(document: object) -> bool:
    """Whether a decoded JSON document looks like a result, be it a broken one."""
    return isinstance(document, dict) and {"schema", "status"} <= document.keys()


def machine_label(result: Result) -> str:
    """The machine in words, for example ``NVIDIA H100, 16 cores, torch 2.15``; speeds depend on it."""
    return machine_text(result.get("machine", {}))


def machine_text(machine: Mapping[str, Any]) -> str:
    """The ``machine`` object of a result in words."""
    count = machine.get("cores")
    cores = f"{count} core{'' if count == 1 else 's'}" if count else None
    torch = f"torch {machine['torch']}" if machine.get("torch") else None
    known = [str(part) for part in (machine.get("gpu"), machine.get("cpu"), cores, torch) if part]
    return ", ".join(known) or "unknown machine"
