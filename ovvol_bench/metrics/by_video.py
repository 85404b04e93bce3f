"""Numbers by video: what intervals and paired comparisons over videos are made of.

Most numbers are means, so that each video has a sum and a count of its own. Average precision is none;
there the jackknife's pseudo-values stand in: with A the number over V videos and A_v the one without
video v, ``V * A - (V - 1) * A_v`` is v's, moved so that their mean is A (Efron and Tibshirani, An
Introduction to the Bootstrap, section 11.5).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.benchmark import Metric, MetricValue
from ovvol_bench.data.transforms import target_size
from ovvol_bench.detections import Detections
from ovvol_bench.metrics.accumulators import VidAP
from ovvol_bench.metrics.columns import Columns, InputSize, build_columns, detection_columns
from ovvol_bench.metrics.evaluation import evaluate, evaluate_detections, table_of
from ovvol_bench.metrics.protocols import Protocol, protocol_of
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.predictions import Predictions
from ovvol_bench.types import ClipInfo


@dataclass(frozen=True)
class Terms:
    """A number by video: it is the sum of ``sums`` over the sum of ``counts``.

    Attributes:
        sums: (V,) float64.
        counts: (V,) float64, not negative: the frames, objects or clips that a sum is over.
    """

    sums: Doubles
    counts: Doubles

    @property
    def value(self) -> float:
        """The number; NaN where there is no data."""
        total = float(self.counts.sum())
        return float(self.sums.sum()) / total if total else float("nan")


@dataclass(frozen=True)
class ByVideo:
    """The numbers of some metrics by video.

    Attributes:
        videos: (V,) names.
        terms: by ``name@protocol``.
    """

    videos: tuple[str, ...]
    terms: Mapping[str, Terms]


def by_video(
    predictions: Predictions, truth: Mapping[str, ClipInfo] | TruthTable, metrics: Sequence[Metric]
) -> ByVideo:
    """Take numbers apart by video.

    Args:
        predictions: of any clips, in any order.
        truth: as for ``evaluate``.
        metrics: fresh ones, left so; those that are no mean over their count, other than VID AP, are left
            out.

    Raises:
        DataError: as ``evaluate``.
    """
    predictions = predictions.in_order()
    table = table_of(predictions, truth)
    videos = _clips_of_videos(predictions.videos)
    parts = [(predictions.select(clips), table.select(clips)) for clips in videos.values()]
    means = [metric for metric in metrics if metric.averages]
    terms = _means([evaluate(found, truth, deepcopy(means)) for found, truth in parts])

    def columns(protocol: Protocol) -> Iterator[Columns]:
        return (build_columns(found, truth, protocol) for found, truth in parts)

    def whole(metric: Metric) -> Mapping[str, MetricValue]:
        return evaluate(predictions, table, [metric])

    return ByVideo(tuple(videos), terms | _precisions(metrics, len(parts), columns, whole))


def detections_by_video(
    detections: Detections,
    truth: Sequence[ClipInfo],
    metrics: Sequence[Metric],
    input_size: InputSize = target_size,
) -> ByVideo:
    """Take the numbers of another program's detections apart by video.

    Args:
        detections: in all frames of the truth.
        truth: clips in order (see ``detections.in_order``).
        metrics: as for ``by_video``.
        input_size: as for ``evaluate_detections``.

    Raises:
        DataError: as ``evaluate_detections``.
    """
    clips: dict[str, list[ClipInfo]] = {}
    for info in truth:
        clips.setdefault(info.video, []).append(info)
    names = sorted(clips)
    parts = [(detections.of_video(name), clips[name]) for name in names]
    means = [metric for metric in metrics if metric.averages]
    terms = _means([evaluate_detections(found, infos, deepcopy(means), input_size) for found, infos in parts])

    def columns(protocol: Protocol) -> Iterator[Columns]:
        return (
            detection_columns(found, TruthTable.of(infos), protocol, input_size) for found, infos in parts
        )

    def whole(metric: Metric) -> Mapping[str, MetricValue]:
        return evaluate_detections(detections, truth, [metric], input_size)

    return ByVideo(tuple(names), terms | _precisions(metrics, len(parts), columns, whole))


def _clips_of_videos(videos: Sequence[str]) -> dict[str, Ints]:
    """The clips of every video, videos in their order."""
    names, inverse = np.unique(np.array(videos, dtype=np.str_), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(names)))
    return dict(zip(names.tolist(), np.split(order, ends[:-1]), strict=True)) if len(names) else {}


def _means(scored: Sequence[Mapping[str, MetricValue]]) -> dict[str, Terms]:
    """Terms of the numbers of each video that are means over their counts."""
    names = scored[0] if scored else {}
    terms = {}
    for name in names:
        values = np.array([video[name].value for video in scored])
        counts = np.array([video[name].count for video in scored], np.float64)
        terms[name] = Terms(np.where(counts > 0, np.nan_to_num(values) * counts, 0.0), counts)
    return terms


def _precisions(
    metrics: Sequence[Metric],
    videos: int,
    columns_of: Callable[[Protocol], Iterator[Columns]],
    whole_of: Callable[[Metric], Mapping[str, MetricValue]],
) -> dict[str, Terms]:
    """Terms of VID AP, from the columns of each video and the numbers over all."""
    terms: dict[str, Terms] = {}
    for metric in metrics:
        if isinstance(metric, VidAP) and videos > 1:
            columns = partial(columns_of, protocol_of(metric.protocol))
            terms |= _precision(columns, videos, metric, whole_of(metric))
    return terms


def _precision(
    columns: Callable[[], Iterator[Columns]],
    videos: int,
    metric: VidAP,
    whole: Mapping[str, MetricValue],
) -> dict[str, Terms]:
    """The numbers of VID AP apart, given those over all videos.

    How much each video weighs is taken from the ranking with grouped ties, which sums can be taken from.
    """
    stream = metric.grouped().stream()
    for piece in columns():
        stream.survey(piece)
    for piece in columns():
        stream.add(piece)
    without = [stream.without(piece) for piece in columns()]
    terms = {}
    for key, value in whole.items():
        left = np.array([numbers[key.split("@")[0]].value for numbers in without])
        if not np.isnan([value.value, *left]).any():  # else all objects are in one video
            terms[key] = Terms(_pseudo_values(value.value, left), np.ones(videos))
    return terms


def _pseudo_values(whole: float, left: Doubles) -> Doubles:
    """(V,) of the number over all videos and the numbers without each."""
    values: Doubles = len(left) * whole - (len(left) - 1) * left
    return np.asarray(values - values.mean() + whole)
