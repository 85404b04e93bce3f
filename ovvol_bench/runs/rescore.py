"""Scoring again: results from stored predictions, and foreign predictions, without any model."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import canonical_digest, json_ready
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import build_dataset, clip_infos, located
from ovvol_bench.runs.fitting import Wanted, fitting, lacks_of_truth
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.results import Outcome, Truth, build_result
from ovvol_bench.runs.scoring import missing_clips, needs_masks, score, score_videos
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.runs.store import RunFolder


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
    """The ``scoring`` object of a result: what ``reproduce`` computes again."""
    choices = wanted.choices if wanted else own
    return [
        {"name": each.name, "options": dict(each.options)} for each in choices if each.name not in left_out
    ]


def same_dataset(registry: Registry, spec: RunSpec, places: Mapping[str, Any] | None = None) -> Dataset:
    """The dataset of a run.

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
