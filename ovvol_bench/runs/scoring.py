"""From stored predictions and truth to the numbers of a result; no model takes part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from ovvol_bench.benchmark import Metric
from ovvol_bench.metrics.evaluation import evaluate
from ovvol_bench.predictions import Predictions
from ovvol_bench.runs.results import Coverage
from ovvol_bench.types import ClipInfo


def needs_masks(metrics: Sequence[Metric]) -> bool:
    """Whether a metric may look at slots; those of boxes say that they don't."""
    return any(getattr(metric, "needs_masks", True) for metric in metrics)


def score(
    predictions: Predictions, infos: Sequence[ClipInfo], metrics: Sequence[Metric]
) -> tuple[Coverage, dict[str, Any]]:
    """Score predictions against the truth of a dataset.

    Args:
        predictions: of some or all of the clips.
        infos: of the clips asked for.
        metrics: fresh ones; where a clip has no truth, only those that say ``needs_truth = False``
            are computed.

    Returns:
        How much was predicted, and the ``metrics`` object of a result.

    Raises:
        DataError: if predictions and dataset don't belong together.
    """
    coverage = Coverage(len(predictions), int(predictions.frame_counts.sum()))
    if any(info.truth is None for info in infos):
        metrics = [metric for metric in metrics if not getattr(metric, "needs_truth", True)]
    values = evaluate(predictions, {info.id: info for info in infos}, metrics)
    return coverage, {key: asdict(value) for key, value in values.items()}
