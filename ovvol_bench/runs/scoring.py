"""From stored predictions and truth to the numbers of a result; no model takes part."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ovvol_bench.metrics.base import Metric
from ovvol_bench.metrics.by_video import ByVideo, by_video
from ovvol_bench.metrics.evaluation import evaluate
from ovvol_bench.predictions import ClipPrediction, Predictions, frame_name, own_frames, predicted_frames
from ovvol_bench.runs.results import Coverage
from ovvol_bench.types import ClipInfo


def needs_masks(metrics: Sequence[Metric]) -> bool:
    """Whether a metric may look at slots; those of boxes say that they don't."""
    return any(getattr(metric, "needs_masks", True) for metric in metrics)


def score_videos(
    predictions: Predictions, infos: Sequence[ClipInfo], metrics: Sequence[Metric]
) -> dict[str, Any]:
    """The ``videos`` object of a result: what intervals and paired comparisons are made of.

    Args:
        predictions: of some or all of the clips.
        infos: of the clips asked for.
        metrics: fresh ones, left so.

    Returns:
        ``names`` of the videos, and ``terms``: by number its ``sums`` and ``counts``, one a video. See
        ``by_video``.
    """
    return videos_record(
        by_video(predictions, {info.id: info for info in infos}, _computable(metrics, infos))
    )


def videos_record(found: ByVideo) -> dict[str, Any]:
    """The ``videos`` object of a result."""
    terms = {
        key: {
            "sums": [round(each, 6) for each in terms.sums.tolist()],
            "counts": terms.counts.astype(int).tolist(),
        }
        for key, terms in found.terms.items()
    }
    return {"names": list(found.videos), "terms": terms}


def missing_clips(predictions: Predictions, infos: Sequence[ClipInfo]) -> list[str]:
    """Ids of the clips that predictions lack, in the order of the dataset."""
    there = set(predictions.clip_ids)
    return [info.id for info in infos if info.id not in there]


def unread_frames(predictions: Predictions, infos: Sequence[ClipInfo]) -> list[str]:
    """Names of the frames that the predicted clips have in the dataset and lack in predictions, sorted."""
    found = {clip.id: set(clip.frame_indices) for clip in predictions.identities()}
    return sorted(
        frame_name(info.video, index)
        for info in map(own_frames, infos)
        for index in info.frame_indices
        if index not in found.get(info.id, info.frame_indices)
    )


def usable(predictions: Predictions, infos: Sequence[ClipInfo]) -> tuple[Predictions, dict[str, int]]:
    """The clips of predictions that can be scored, and how many can't, by reason."""
    truth = {info.id: own_frames(info) for info in infos}
    reasons = [_unusable(clip, truth.get(clip.info.id)) for clip in predictions.without_masks()]
    kept = np.array([row for row, reason in enumerate(reasons) if reason is None], np.int64)
    return predictions.select(kept), dict(Counter(filter(None, reasons)))


def _unusable(clip: ClipPrediction, truth: ClipInfo | None) -> str | None:
    """Why a clip can't be scored, or None."""
    info, found = clip.info, clip.localization
    if truth is None:
        return "unknown clip"
    truth = predicted_frames(truth, info.frame_indices)
    if (truth.video, truth.frame_indices, truth.frame_size) != (
        info.video,
        info.frame_indices,
        info.frame_size,
    ):
        return "clip of other frames"
    if not (np.isfinite(found.boxes).all() and np.isfinite(found.probabilities).all()):
        return "not a number"
    return "inverted box" if (found.boxes[..., 2:] < found.boxes[..., :2]).any() else None


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
    frames = int(predictions.frame_counts.sum())
    coverage = Coverage(len(predictions), frames, unread=unread_frames(predictions, infos))
    values = evaluate(predictions, {info.id: info for info in infos}, _computable(metrics, infos))
    return coverage, {key: asdict(value) for key, value in values.items()}


def _computable(metrics: Sequence[Metric], infos: Sequence[ClipInfo]) -> Sequence[Metric]:
    """The metrics that the truth is enough for."""
    if all(info.truth is not None for info in infos):
        return metrics
    return [metric for metric in metrics if not getattr(metric, "needs_truth", True)]
