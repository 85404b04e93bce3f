"""Score stored predictions: a run again, or a file of any program, without any model."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from ovvol_bench.data.base import Dataset
from ovvol_bench.detections import in_order
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import canonical_digest, json_ready
from ovvol_bench.formats import detect, format_of
from ovvol_bench.formats.entries import Content, OnError
from ovvol_bench.metrics.by_video import detections_by_video
from ovvol_bench.metrics.evaluation import evaluate_detections
from ovvol_bench.registry import Registry
from ovvol_bench.runs.build import build_dataset, clip_infos, located
from ovvol_bench.runs.predictions import is_own, read_predictions
from ovvol_bench.runs.score import (
    Fitting,
    Lacks,
    Wanted,
    fitting,
    lacks_of_detections,
    lacks_of_truth,
    missing_clips,
    needs_masks,
    of_segments,
    score,
    score_videos,
    usable,
    videos_record,
)
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import PartSpec, RunSpec
from ovvol_bench.runs.store import Outcome, RunFolder, Truth, build_result, outside_result
from ovvol_bench.types import ClipInfo


def rescore_run(
    folder: RunFolder,
    registry: Registry,
    wanted: Wanted | None = None,
    places: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """Compute a run's metrics again; writes ``result.json`` anew if the run is complete.

    Args:
        folder: of the run.
        registry: builds the dataset and the metrics.
        wanted: what to compute, added to what the result has; None for all metrics of the run,
            which replace what the result has.
        places: see `same_dataset`.

    Returns:
        The result, of a run that was cut off one over the clips so far; and the metrics that were left
        out, with their reasons.

    Raises:
        DataError: if the folder is no run, or the dataset's content is no longer what it was.
        SettingError: if a metric doesn't fit and is not to be left out.
    """
    with folder.claimed() if folder.complete else nullcontext():
        return _rescore(folder, registry, wanted, places or {})


def _rescore(
    folder: RunFolder, registry: Registry, wanted: Wanted | None, places: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    spec = folder.read_spec()
    dataset = same_dataset(registry, spec, places)
    before = folder.read_result() or {}
    finished = before.get("status") == "done"
    scored = before.get("scoring") if finished and wanted else None
    # Numbers of one result are computed together: those it has already once more, beside the new ones.
    own = _choices(scored or [asdict(metric) for metric in spec.metrics])
    if wanted:
        wanted = Wanted(_joined(registry, own if finished else (), wanted.choices), wanted.lenient)
    infos = clip_infos(dataset, spec.limit)
    lacks = lacks_of_truth(infos, spec.dataset.name)
    found = fitting(registry, dataset, wanted or Wanted(own, lenient=True), lacks)
    built = found.metrics
    predictions = read_predictions(folder.predictions, needs_masks(built))
    lost = missing_clips(predictions, infos)
    if finished and len(lost) > len(infos) - before["coverage"]["done"]:
        raise DataError(
            f"{folder.predictions}: {len(predictions)} clips are there, and {before['coverage']['done']} of "
            f"{len(infos)} were localized; '{lost[0]}' is missing, for one. Start the run again: only these "
            "are computed."
        )
    videos = score_videos(predictions, infos, built)
    coverage, values = score(predictions, infos, built)
    if not finished:
        coverage = replace(coverage, skipped=dataset.skipped)
        truth = Truth.of(infos, dataset.vocabulary.name)
        error = f"cut off: {coverage.done} of {len(infos)} clips are there" if lost else None
        return build_result(
            spec, truth, Outcome(coverage, values, error=error, videos=videos)
        ), found.left_out
    counts = {
        "clips": len(infos),
        "done": coverage.done,
        "frames": coverage.frames,
        "unread": coverage.unread,
    }
    result = {
        **before,
        "scoring": _scoring(own, wanted, found.left_out),
        "coverage": {**before["coverage"], **counts},
        "metrics": json_ready(values),
        "videos": videos,
    }
    return folder.write_result(result), found.left_out


def _choices(scoring: Sequence[Mapping[str, Any]]) -> tuple[Choice, ...]:
    return tuple(Choice(metric["name"], metric["options"]) for metric in scoring)


def _joined(registry: Registry, known: Sequence[Choice], added: Sequence[Choice]) -> tuple[Choice, ...]:
    """Choices of metrics, each once, whether its defaults are written out or not."""
    joined: dict[str, Choice] = {}
    for each in (*known, *added):
        settings = registry.resolve("metric", each.name, each.options)
        joined.setdefault(canonical_digest([each.name, settings]), each)
    return tuple(joined.values())


def _scoring(own: Sequence[Choice], wanted: Wanted | None, left_out: Collection[str]) -> list[dict[str, Any]]:
    """Return the ``scoring`` object of a result: what ``reproduce`` computes again."""
    choices = wanted.choices if wanted else own
    return [
        {"name": each.name, "options": dict(each.options)} for each in choices if each.name not in left_out
    ]


def same_dataset(registry: Registry, spec: RunSpec, places: Mapping[str, Any] | None = None) -> Dataset:
    """Open the dataset of a run.

    Args:
        registry: builds it.
        spec: of the run.
        places: settings that say where it lies now, by default those of the run.

    Raises:
        SettingError: if another setting would be changed.
        DataError: if its content is not what the run saw.
    """
    places = places or {}
    movable = located(registry, "dataset", spec.dataset.name)
    if others := sorted(places.keys() - set(movable)):
        known = ", ".join(f"dataset.{name}" for name in movable) or "nothing, for this dataset"
        raise SettingError(
            f"-o dataset.{others[0]}: a run knows its dataset; expected only where it lies: {known}"
        )
    found, dataset = build_dataset(registry, Choice(spec.dataset.name, {**spec.dataset.options, **places}))
    # Both hold truth and frames; frames may lie on another machine.
    parts = zip(str(found.digest).split("-"), str(spec.dataset.digest).split("-"), strict=False)
    if any(now != then for now, then in parts):
        where = {
            name: value for name, value in found.options.items() if name in movable and value is not None
        }
        at = "".join(f" (dataset.{name}={value})" for name, value in where.items())
        what = "is not the one of the run" if places else "has changed since the run"
        raise DataError(
            f"dataset '{spec.dataset.name}'{at} {what}: fingerprint {found.digest}, then "
            f"{spec.dataset.digest}. Restore the data, say where they lie with -o dataset.SETTING=PLACE, or "
            "run again."
        )
    return dataset


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
        """Tell whether the file is in this project's own format."""
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
    """Objects of a file's result."""

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
