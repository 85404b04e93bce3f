"""The result of a run: one JSON object that explains itself. Schema: docs/results.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from ovvol_bench.files import canonical_digest, json_ready, sealed
from ovvol_bench.results.machine import code_facts, machine_facts
from ovvol_bench.runs.spec import SCHEMA, PartSpec, RunSpec
from ovvol_bench.types import ClipInfo

STAGES = ("decode", "encode", "group", "label", "name", "store")


@dataclass(frozen=True)
class Truth:
    """What was asked of a run: its clips and how much truth they hold.

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
    """What a run got through.

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
class Timing:
    """How long the clips of one session took.

    Attributes:
        clips: clips computed by this call (fewer than the run's if it was continued).
        wall: seconds of the loop that belong to this combination.
        seconds: per stage; ``decode`` is the time waited for frames.
        reading: seconds of the processor that reading frames took, of all workers; what was not waited for
            went on beside the other stages.
    """

    clips: int = 0
    wall: float = 0.0
    seconds: Mapping[str, float] = field(default_factory=dict)
    reading: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """The ``timing`` object of a result."""
        return {
            "clips": self.clips,
            "clips_per_s": self.clips / self.wall if self.clips and self.wall else None,
            "seconds": {stage: round(self.seconds.get(stage, 0.0), 4) for stage in STAGES},
            "reading_cpu_s": round(self.reading, 4),
        }


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

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
    """The result of predictions that another program made: a run's, with a file in place of parts.

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
    """The result as plain JSON types, NaN as None."""
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
    """The ``encoder``, ``grouper`` or ``labeler`` object of a result."""
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
