"""Scoring again: results from stored predictions, and foreign predictions, without any model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ovvol_bench.benchmark import Dataset
from ovvol_bench.errors import DataError
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import build_dataset, build_metrics, clip_infos
from ovvol_bench.runs.files import without_nan
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.results import Coverage, Outcome, Truth, build_result
from ovvol_bench.runs.scoring import needs_masks, score, score_videos
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.runs.store import RunFolder


def rescore_run(
    folder: RunFolder, registry: Registry, metrics: Sequence[Choice] | None = None
) -> dict[str, Any]:
    """Compute a run's metrics again; writes ``result.json`` anew if the run is complete.

    Args:
        folder: of the run.
        registry: builds the dataset and the metrics.
        metrics: what to compute, added to what the result has; None for all metrics of the run,
            which replace what the result has.

    Returns:
        The result; of a run that was cut off, one over the clips so far.

    Raises:
        DataError: if the folder is no run, or the dataset's content is no longer what it was.
    """
    spec = folder.read_spec()
    dataset = same_dataset(registry, spec)
    own = [Choice(metric.name, metric.options) for metric in spec.metrics]
    built, _ = build_metrics(registry, own if metrics is None else metrics, dataset.vocabulary)
    infos = clip_infos(dataset, spec.limit)
    predictions = read_predictions(folder.predictions, needs_masks(built))
    videos = score_videos(predictions, infos, built)
    coverage, values = score(predictions, infos, built)
    before = folder.read_result()
    if before is None or before["status"] != "done":
        coverage = Coverage(coverage.done, coverage.frames, dataset.skipped)
        truth = Truth.of(infos, dataset.vocabulary.name)
        return build_result(spec, truth, Outcome(coverage, values, videos=videos))
    values = without_nan(values)
    if metrics is not None:
        values = {**before["metrics"], **values}
        videos |= {"terms": {**_terms_of(before, videos["names"]), **videos["terms"]}}
    result = {**before, "metrics": values, "videos": videos}
    with folder.claimed():
        return folder.write_result(result)


def _terms_of(result: dict[str, Any], videos: list[str]) -> dict[str, Any]:
    """The terms that a result has for these videos."""
    known: dict[str, Any] = result.get("videos", {})
    return dict(known.get("terms", {})) if known.get("names") == videos else {}


def same_dataset(registry: Registry, spec: RunSpec) -> Dataset:
    """The dataset of a run.

    Raises:
        DataError: if its content is no longer what the run saw.
    """
    found, dataset = build_dataset(registry, Choice(spec.dataset.name, spec.dataset.options))
    if found.digest != spec.dataset.digest:
        raise DataError(
            f"dataset '{spec.dataset.name}' has changed since the run: fingerprint {found.digest}, "
            f"then {spec.dataset.digest}. Restore the data, or run again."
        )
    return dataset


def score_file(path: Path, choice: Choice, registry: Registry, metrics: Sequence[Choice]) -> dict[str, Any]:
    """Score a predictions file or folder of any origin against a dataset.

    Returns:
        The objects ``dataset``, ``coverage`` and ``metrics`` of a result.

    Raises:
        DataError: if the predictions can't be read, or they and the dataset don't belong together.
    """
    spec, dataset = build_dataset(registry, choice)
    built, _ = build_metrics(registry, metrics, dataset.vocabulary)
    infos = clip_infos(dataset, None)
    coverage, values = score(read_predictions(path, needs_masks(built)), infos, built)
    return {
        "dataset": {"name": spec.name, "options": dict(spec.options), "fingerprint": spec.digest},
        "coverage": {"clips": len(infos), "done": coverage.done, "frames": coverage.frames},
        "metrics": values,
    }
