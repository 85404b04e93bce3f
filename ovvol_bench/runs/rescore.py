"""Scoring again: results from stored predictions, and foreign predictions, without any model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ovvol_bench.benchmark import Dataset
from ovvol_bench.errors import DataError
from ovvol_bench.registry import Registry
from ovvol_bench.runs.benchmark import build_dataset, clip_infos
from ovvol_bench.runs.files import without_nan
from ovvol_bench.runs.fitting import Wanted, fitting, lacks_of_truth
from ovvol_bench.runs.predictions import read_predictions
from ovvol_bench.runs.results import Coverage, Outcome, Truth, build_result
from ovvol_bench.runs.scoring import needs_masks, score, score_videos
from ovvol_bench.runs.selection import Choice
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.runs.store import RunFolder


def rescore_run(
    folder: RunFolder, registry: Registry, wanted: Wanted | None = None
) -> tuple[dict[str, Any], Mapping[str, str]]:
    """Compute a run's metrics again; writes ``result.json`` anew if the run is complete.

    Args:
        folder: of the run.
        registry: builds the dataset and the metrics.
        wanted: what to compute, added to what the result has; None for all metrics of the run,
            which replace what the result has.

    Returns:
        The result, of a run that was cut off one over the clips so far; and the metrics that were left
        out, with their reasons.

    Raises:
        DataError: if the folder is no run, or the dataset's content is no longer what it was.
        SettingError: if a metric doesn't fit and is not to be left out.
    """
    spec = folder.read_spec()
    dataset = same_dataset(registry, spec)
    own = tuple(Choice(metric.name, metric.options) for metric in spec.metrics)
    infos = clip_infos(dataset, spec.limit)
    lacks = lacks_of_truth(infos, spec.dataset.name)
    found = fitting(registry, dataset, wanted or Wanted(own, lenient=True), lacks)
    built = found.metrics
    predictions = read_predictions(folder.predictions, needs_masks(built))
    videos = score_videos(predictions, infos, built)
    coverage, values = score(predictions, infos, built)
    before = folder.read_result()
    if before is None or before["status"] != "done":
        coverage = Coverage(coverage.done, coverage.frames, dataset.skipped)
        truth = Truth.of(infos, dataset.vocabulary.name)
        return build_result(spec, truth, Outcome(coverage, values, videos=videos)), found.left_out
    values = without_nan(values)
    if wanted is not None:
        values = {**before["metrics"], **values}
        videos |= {"terms": {**_terms_of(before, videos["names"]), **videos["terms"]}}
    result = {**before, "metrics": values, "videos": videos}
    with folder.claimed():
        return folder.write_result(result), found.left_out


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
    # Both hold truth and frames; frames may lie on another machine.
    parts = zip(str(found.digest).split("-"), str(spec.dataset.digest).split("-"), strict=False)
    if any(now != then for now, then in parts):
        raise DataError(
            f"dataset '{spec.dataset.name}' has changed since the run: fingerprint {found.digest}, "
            f"then {spec.dataset.digest}. Restore the data, or run again."
        )
    return dataset
