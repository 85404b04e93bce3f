"""Run folders, one an identity, guarded by a lock and continued where cut off; their ``result.json``.

Schema of results: docs/results.md.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import (
    canonical_digest,
    json_ready,
    make_folder,
    read_json_object,
    remove_leftovers,
    sealed,
    write_json,
)
from ovvol_bench.locks import claimed
from ovvol_bench.results.machine import code_facts, machine_facts
from ovvol_bench.runs.clock import Timing
from ovvol_bench.runs.spec import SCHEMA, PartSpec, RunSpec
from ovvol_bench.types import ClipInfo


class Overwrite(StrEnum):
    """Treatment of a run whose folder is there already.

    ``NEVER`` refuses if the run is complete, ``MISSING`` computes only what is missing, ``ALWAYS``
    starts anew. A run that was cut off is continued by the first two.
    """

    NEVER = "never"
    MISSING = "missing"
    ALWAYS = "always"


class RunFolder:
    """``<root>/<dataset>/<encoder>+<grouper>+<labeler>/<id>/`` with its files.

    Attributes:
        path: the folder.
        predictions: folder of the prediction shards.
        spec_file: ``run.json``, the spec.
        result_file: ``result.json``.
        unread_file: ``unread.json``, name of a frame to why it could not be read; only if there are such.
        overlays: folder of pictures.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.predictions = path / "predictions"
        self.spec_file = path / "run.json"
        self.result_file = path / "result.json"
        self.unread_file = path / "unread.json"
        self.overlays = path / "overlays"

    @classmethod
    def of(cls, root: Path, spec: RunSpec) -> RunFolder:
        """Return the folder of the run with this spec; touches no file."""
        return cls(root / spec.dataset.name / spec.title / spec.id)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it even if the process is killed.

        Raises:
            SettingError: if another process holds it.
        """
        with claimed(self.path / "lock", "give this run another folder with --output"):
            yield

    def start(self, spec: RunSpec, overwrite: Overwrite) -> None:
        """Make the folder ready to be written or continued; call it while the folder is claimed.

        Raises:
            SettingError: if the run is complete and ``overwrite`` is ``NEVER``.
        """
        if overwrite is Overwrite.NEVER and self.complete:
            raise SettingError(
                f"{self.path} holds a complete run already, and --overwrite is 'never'. "
                "Use --overwrite missing to keep it, or --overwrite always to compute it again."
            )
        if overwrite is Overwrite.ALWAYS:
            self.result_file.unlink(missing_ok=True)
            self.unread_file.unlink(missing_ok=True)
            for folder in (self.predictions, self.overlays):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.path, self.predictions, self.overlays):
            remove_leftovers(folder)
        make_folder(self.predictions)
        write_json(self.spec_file, {"schema": SCHEMA, "id": spec.id, "spec": spec.to_json()})

    @property
    def complete(self) -> bool:
        """Tell whether the run came to its end: there is a result and it is not of a failure."""
        return self.result_file.exists() and read_json_object(self.result_file).get("status") == "done"

    def read_spec(self) -> RunSpec:
        """Read the spec in ``run.json``.

        Raises:
            DataError: if it is missing, malformed or of another schema.
        """
        data = self.read_json()
        if data.get("schema") != SCHEMA or not isinstance(data.get("spec"), dict):
            raise DataError(
                f"{self.spec_file}: expected a run of schema {SCHEMA}, found {data.get('schema')!r}"
            )
        return RunSpec.from_json(data["spec"])

    def read_json(self) -> dict[str, Any]:
        """Read the content of ``run.json``: schema, id and spec.

        Raises:
            DataError: if it is missing or malformed.
        """
        return read_json_object(self.spec_file)

    def read_result(self) -> dict[str, Any] | None:
        """Read the result; None before there is one."""
        return read_json_object(self.result_file) if self.result_file.exists() else None

    def write_result(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write ``result.json`` atomically.

        Returns:
            What was written: the result with the digest of its content.
        """
        written = sealed(json_ready(result))
        write_json(self.result_file, written)
        return written


@dataclass(frozen=True)
class Truth:
    """Clips asked of a run, and how much ground truth they hold.

    Attributes:
        clips: clips asked for.
        frames: frames of those clips that are reported (context frames left out).
        boxes: true boxes in those frames.
        vocabulary: name of the vocabulary.
    """

    clips: int
    frames: int
    boxes: int
    vocabulary: str

    @classmethod
    def of(cls, infos: Iterable[ClipInfo], vocabulary: str) -> Truth:
        """Count over the clips asked for."""
        infos = list(infos)
        frames = sum(len(info.frame_indices) - info.context for info in infos)
        boxes = sum(len(frame) for info in infos for frame in (info.truth or ())[info.context :])
        return cls(len(infos), frames, boxes, vocabulary)


@dataclass(frozen=True)
class Coverage:
    """Clips and frames that a run got through.

    Attributes:
        done: clips with predictions.
        frames: frames with predictions.
        skipped: reason to count: clips that failed, and what the dataset left out.
        unread: names of frames of these clips that have none, since they could not be read.
    """

    done: int = 0
    frames: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)
    unread: Sequence[str] = ()


@dataclass(frozen=True)
class Outcome:
    """Objects of a run's result.

    Attributes:
        coverage: clips and frames done and skipped.
        metrics: the ``metrics`` object of the result, by ``NAME@PROTOCOL``.
        timing: the ``timing`` object of the result.
        error: why the run failed, None if it didn't.
        gpu: name of the GPU that was used, or None.
        videos: the ``videos`` object of the result.
    """

    coverage: Coverage = field(default_factory=Coverage)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    timing: Mapping[str, Any] = field(default_factory=lambda: Timing().to_json())
    error: str | None = None
    gpu: str | None = None
    videos: Mapping[str, Any] = field(default_factory=lambda: {"names": [], "terms": {}})


def outside_result(
    name: str,
    dataset: PartSpec,
    truth: Truth,
    scored: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the result of predictions of another program: a run's, with a file in place of parts.

    Args:
        name: of the method, as tables call it.
        dataset: what it was scored on.
        truth: what was asked of it.
        scored: the objects ``file``, ``coverage``, ``metrics``, ``videos``, ``scoring`` and ``left_out``.
    """
    content = {"method": name, "file": scored["file"]["sha256"], "dataset": dataset.identity}
    result = {
        "schema": SCHEMA,
        "status": "done",
        "id": canonical_digest(json_ready(content))[:16],
        "error": None,
        "method": {"name": name},
        "dataset": _dataset(dataset, truth),
        "oracle": False,
        **scored,
        "code": code_facts(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    plain: dict[str, Any] = sealed(json_ready(result))
    return plain


def build_result(spec: RunSpec, truth: Truth, outcome: Outcome) -> dict[str, Any]:
    """Return the result as plain JSON types, NaN as None."""
    result = {
        "schema": SCHEMA,
        "status": "done" if outcome.error is None else "failed",
        "id": spec.id,
        "error": outcome.error,
        "dataset": _dataset(spec.dataset, truth),
        "encoder": part_record(spec.encoder),
        "grouper": part_record(spec.grouper),
        "labeler": part_record(spec.labeler),
        "oracle": spec.oracle,
        "seen": {kind: part.seen for kind, part in spec.networks.items() if part.seen},
        "naming": dict(spec.naming),
        **_seeds(spec),
        "precision": spec.precision,
        "fidelity": spec.fidelity,
        "limit": spec.limit,
        "scoring": [{"name": metric.name, "options": dict(metric.options)} for metric in spec.metrics],
        "coverage": {
            "clips": truth.clips,
            "done": outcome.coverage.done,
            "frames": outcome.coverage.frames,
            "unread": list(outcome.coverage.unread),
            "skipped": dict(outcome.coverage.skipped),
        },
        "metrics": dict(outcome.metrics),
        "videos": dict(outcome.videos),
        "timing": dict(outcome.timing),
        "code": {**code_facts(), "sha256": spec.core_code},
        "machine": machine_facts(outcome.gpu),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    plain: dict[str, Any] = json_ready(result)
    return plain


def part_record(part: PartSpec) -> dict[str, Any]:
    """Return the ``encoder``, ``grouper`` or ``labeler`` object of a result."""
    return {
        "name": part.name,
        "plugin": part.plugin,
        "version": part.version,
        "options": dict(part.options),
        "located": list(part.located),
        "code_sha256": part.code,
        "weights_sha256": part.digest,
    }


def _dataset(part: PartSpec, truth: Truth) -> dict[str, Any]:
    return {
        "name": part.name,
        "options": dict(part.options),
        "located": list(part.located),
        "code_sha256": part.code,
        "fingerprint": part.digest,
        "vocabulary": truth.vocabulary,
        "clips": truth.clips,
        "frames": truth.frames,
        "truth_boxes": truth.boxes,
    }


def _seeds(spec: RunSpec) -> dict[str, Any]:
    if spec.consensus is None:
        return {"seed": spec.seeds[0]}
    return {"seeds": list(spec.seeds), "consensus": list(spec.consensus)}
