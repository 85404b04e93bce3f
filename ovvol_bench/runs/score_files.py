"""Files of any program against the truth of a dataset: what was found, what was left out, and the numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ovvol_bench.data.base import Dataset
from ovvol_bench.detections import in_order
from ovvol_bench.errors import DataError
from ovvol_bench.formats import detect, format_of
from ovvol_bench.formats.entries import Content, OnError
from ovvol_bench.metrics.by_video import detections_by_video
from ovvol_bench.metrics.evaluation import evaluate_detections
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import clip_infos
from ovvol_bench.runs.fitting import (
    Fitting,
    Lacks,
    Wanted,
    fitting,
    lacks_of_detections,
    lacks_of_truth,
    of_segments,
)
from ovvol_bench.runs.predictions import is_own, read_predictions
from ovvol_bench.runs.results import Truth, outside_result
from ovvol_bench.runs.scoring import needs_masks, score, score_videos, usable, videos_record
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.types import ClipInfo

Fit = Callable[[Lacks], Fitting]

OWN = "ovvol-bench"
"""The name of this project's own format, docs/predictions.md."""


@dataclass(frozen=True)
class Source:
    """A predictions file.

    Attributes:
        path: of the file or folder.
        format: name of its format; None to tell it from the file.
        on_error: ``fail`` refuses the file at the first fault, ``skip`` leaves out such entries.
    """

    path: Path
    format: str | None = None
    on_error: OnError = "fail"

    @property
    def is_own(self) -> bool:
        """Whether the file is in this project's own format."""
        return self.format == OWN or (self.format is None and is_own(self.path))


def score_file(
    source: Source,
    truth: tuple[PartSpec, Dataset],
    registry: Registry,
    wanted: Wanted,
    name: str | None = None,
) -> dict[str, Any]:
    """Score a predictions file or folder of any origin against a dataset.

    Args:
        source: the file.
        truth: the dataset, and what it is.
        registry: builds the metrics.
        wanted: what to compute.
        name: of the method, as tables call it; by default the file's.

    Returns:
        A result, as of a run, with ``method`` and ``file`` in place of parts: its ``name``, ``format`` and
        ``sha256`` (of a folder, of its files' names and digests); ``left_out``: metric to reason.

    Raises:
        DataError: if the file can't be read, or it and the dataset don't belong together.
        SettingError: if a metric doesn't fit and is not to be left out.
    """
    spec, dataset = truth
    if not source.is_own:
        dataset = dataset.with_short_videos()
        spec = replace(spec, digest=dataset.fingerprint())
    wanted = wanted if source.is_own else of_segments(registry, wanted)
    # By video and frame, as predictions are: the order of equal scores is that of the run.
    infos = sorted(clip_infos(dataset, None), key=lambda info: (info.video, info.frame_indices[0], info.id))
    fit = partial(fitting, registry, dataset, wanted)
    if not infos:
        reasons = "".join(f", {count} {reason}" for reason, count in dataset.skipped.items())
        raise DataError(
            f"dataset '{spec.name}' has no frame to score{reasons}. Set dataset.frames_per_clip to what "
            "its videos have, or dataset.split to videos that there are"
        )
    lacks = lacks_of_truth(infos, spec.name)
    scored = (
        _score_own(source, infos, fit, lacks)
        if source.is_own
        else _score_detections(source, dataset, infos, fit, lacks)
    )
    computed = [each for each in wanted.choices if each.name not in scored.left_out]
    record = {
        "coverage": {
            "clips": len(infos),
            "done": len(infos),
            **scored.coverage,
            "skipped": {**dataset.skipped, **scored.coverage["skipped"]},
        },
        "metrics": scored.metrics,
        "left_out": dict(scored.left_out),
        "videos": scored.videos,
        "scoring": [{"name": each.name, "options": dict(each.options)} for each in computed],
        "file": {"name": source.path.name, "format": scored.format, "sha256": digest_of(source.path)},
    }
    counts = Truth.of(infos, dataset.vocabulary.name)
    return outside_result(name or source.path.stem, spec, counts, record)


def digest_of(path: Path) -> str:
    """SHA-256 of a file; of a folder, that of its files' names and digests."""
    if not path.is_dir():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    files = sorted(each for each in path.rglob("*") if each.is_file())
    lines = [f"{file.relative_to(path).as_posix()} {digest_of(file)}\n" for file in files]
    return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


@dataclass(frozen=True)
class _Scored:
    """What came of a file; the fields are those of ``score_file``'s objects."""

    format: str
    coverage: Mapping[str, Any]
    metrics: Mapping[str, Any]
    videos: Mapping[str, Any]
    left_out: Mapping[str, str]


def _score_own(source: Source, infos: Sequence[ClipInfo], fit: Fit, lacks: Lacks) -> _Scored:
    found = fit(lacks)
    predictions = read_predictions(source.path, needs_masks(found.metrics))
    skipped: dict[str, int] = {}
    if source.on_error == "skip":
        predictions, skipped = usable(predictions, infos)
    coverage, metrics = score(predictions, infos, found.metrics)
    if not coverage.frames:
        raise DataError(
            f"{source.path}: none of the dataset's {len(infos)} clips is in it. Was it made with another "
            "split or clip length?"
        )
    counts = {"done": coverage.done, "frames": coverage.frames, "unread": coverage.unread, "skipped": skipped}
    videos = score_videos(predictions, infos, found.metrics)
    return _Scored(OWN, counts, metrics, videos, found.left_out)


def _score_detections(
    source: Source, dataset: Dataset, infos: Sequence[ClipInfo], fit: Fit, lacks: Lacks
) -> _Scored:
    form = format_of(source.format) if source.format else detect(source.path)
    content = Content.of(dataset, infos)
    detections, report = form.read(source.path, content, source.on_error)
    found = fit({**lacks_of_detections(detections, report, str(source.path)), **lacks})
    clips = in_order(infos)
    videos = videos_record(detections_by_video(detections, clips, found.metrics, dataset.input_size))
    values = evaluate_detections(detections, clips, found.metrics, dataset.input_size)
    coverage = {
        "frames": len(detections.frames),
        "frames_with_detections": int((detections.counts > 0).sum()),
        "detections": len(detections),
        "entries": report.entries,
        "unscored": report.unscored,
        "out_of_frame": report.out_of_frame,
        "skipped": dict(report.dropped),
    }
    metrics = {key: asdict(value) for key, value in values.items()}
    return _Scored(form.name, coverage, metrics, videos, found.left_out)
