"""Numbers by video: what intervals and paired comparisons over videos are made of.

Most numbers are means, so that each video has a sum and a count of its own. Average precision is none;
there the jackknife's pseudo-values stand in: with A the number over V videos and A_v the one without
video v, ``V * A - (V - 1) * A_v`` is v's, moved so that their mean is A (Efron and Tibshirani, An
Introduction to the Bootstrap, section 11.5).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.data.transforms import target_size
from ovvol_bench.detections import Detections
from ovvol_bench.metrics.base import Metric, MetricValue
from ovvol_bench.metrics.columns import Columns, InputSize, build_columns, detection_columns
from ovvol_bench.metrics.evaluation import evaluate, evaluate_detections, table_of
from ovvol_bench.metrics.matching import Candidates, find_candidates, queue_up
from ovvol_bench.metrics.protocols import Protocol, protocol_of
from ovvol_bench.metrics.ranks import Area, Ranking, by_class, defined_mean, places
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.vid_ap import Sought, VidAP, elsewhere_weight, outcomes_of
from ovvol_bench.predictions import Predictions
from ovvol_bench.types import ClipInfo

_AT_ONCE = 1 << 20
"""Levels of all videos whose curves are taken together, about."""


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
    names, video = np.unique(np.array(predictions.videos, np.str_), return_inverse=True)
    clips = [np.flatnonzero(video == each) for each in range(len(names))]
    scored = [evaluate(predictions.select(own), table.select(own), _means(metrics)) for own in clips]
    precisions = _precisions(
        metrics,
        lambda protocol: build_columns(predictions, table, protocol),
        np.repeat(video, predictions.frame_counts),
    )
    return ByVideo(tuple(names.tolist()), _terms(scored) | precisions)


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
    scored = [
        evaluate_detections(detections.of_video(name), clips[name], _means(metrics), input_size)
        for name in names
    ]
    place = np.array([names.index(name) for name in detections.frames.videos], np.int64)
    precisions = _precisions(
        metrics,
        lambda protocol: detection_columns(detections, TruthTable.of(truth), protocol, input_size),
        place[detections.frames.video],
    )
    return ByVideo(tuple(names), _terms(scored) | precisions)


def _means(metrics: Sequence[Metric]) -> list[Metric]:
    return [deepcopy(metric) for metric in metrics if metric.averages]


def _terms(scored: Sequence[Mapping[str, MetricValue]]) -> dict[str, Terms]:
    """Return the terms of the numbers of each video that are means over their counts."""
    terms = {}
    for name in scored[0] if scored else ():
        values = np.array([video[name].value for video in scored])
        counts = np.array([video[name].count for video in scored], np.float64)
        terms[name] = Terms(np.where(counts > 0, np.nan_to_num(values) * counts, 0.0), counts)
    return terms


def _precisions(
    metrics: Sequence[Metric], columns_of: Callable[[Protocol], Columns], video: Ints
) -> dict[str, Terms]:
    """Return the terms of VID AP.

    Args:
        metrics: of any kind.
        columns_of: lays all frames out under a protocol.
        video: (F,) the video of each frame, in [0, V).
    """
    terms: dict[str, Terms] = {}
    for metric in metrics:
        if isinstance(metric, VidAP) and len(np.unique(video)) > 1:
            columns = columns_of(protocol_of(metric.protocol))
            whole, without = metric.score(columns), precision_without_each(metric, columns, video)
            for name, left in without.items():
                value = whole[name].value
                if not np.isnan([value, *left]).any():  # else all objects are in one video
                    pseudo = len(left) * value - (len(left) - 1) * left
                    sums = np.asarray(pseudo - pseudo.mean() + value)
                    terms[f"{name}@{metric.protocol}"] = Terms(sums, np.ones(len(left)))
    return terms


def precision_without_each(metric: VidAP, columns: Columns, video: Ints) -> dict[str, Doubles]:
    """Compute average precision over all videos but each.

    The ranking has grouped ties: what a video adds to it can be taken from sums by score.

    Args:
        metric: whose numbers are wanted.
        columns: of F frames.
        video: (F,) the video of each frame, in [0, V).

    Returns:
        By name of the number (V,) float64, NaN without objects.
    """
    columns = metric.view(columns)
    candidates = find_candidates(columns)
    queue = queue_up(columns, candidates, min(metric.thresholds), "group")
    apart = _Apart.of(columns, candidates, Ranking.of(columns, candidates, queue, "group"), video)
    results = []
    for chosen in metric.ranges.values():
        sought = Sought.of(columns, chosen)
        outcomes = outcomes_of(columns, candidates, queue, sought, metric.thresholds)
        left = apart.objects_left(columns, sought)
        results.append([apart.areas(*outcome, *left, metric.area) for outcome in outcomes])
    means = {name: np.mean(parts, axis=0) for name, parts in metric.by_number(results).items()}
    return {name: np.array([defined_mean(row) for row in rows]) for name, rows in means.items()}


@dataclass(frozen=True)
class _Apart:
    """A ranking of the detections of V videos, whose parts can be taken out.

    Attributes:
        ranking: of all of them.
        members: of each class, (d,) its candidates.
        video: (D,) the video of each candidate.
        elsewhere: of each class, (V, bins of the class) int32 detections that are no candidates.
        of_object: (M,) the video of each true object.
    """

    ranking: Ranking
    members: Sequence[Ints]
    video: Ints
    elsewhere: Sequence[npt.NDArray[np.int32]]
    of_object: Ints

    @classmethod
    def of(cls, columns: Columns, candidates: Candidates, ranking: Ranking, video: Ints) -> _Apart:
        videos, members = int(video.max()) + 1, by_class(candidates.class_id, columns.scores.classes)
        of_candidate, of_box = video[columns.frame[candidates.box]], video[columns.frame]
        elsewhere = []
        for class_id, (own, levels) in enumerate(zip(members, ranking.levels, strict=True)):
            found, width = columns.scores.of_class(class_id), 2 * len(levels) + 1
            every = of_box[found.boxes] * width + places(found.values, levels)[found.rows]
            near = of_candidate[own] * width + ranking.bins[own] - ranking.offsets[class_id]
            counts = np.bincount(every, minlength=videos * width) - np.bincount(
                near, minlength=videos * width
            )
            elsewhere.append(counts.reshape(videos, width).astype(np.int32))
        return cls(ranking, members, of_candidate, elsewhere, video[columns.truth.frame])

    def objects_left(self, columns: Columns, sought: Sought) -> tuple[Ints, Doubles]:
        """Count (V, C + 1) objects to be found without each video, and give (V,) ``Sought.elsewhere``."""
        videos, width = len(self.elsewhere[0]), len(sought.objects)
        wanted = ~sought.ignored
        place = self.of_object[wanted] * width + columns.truth.classes[wanted]
        objects = sought.objects - np.bincount(place, minlength=videos * width).reshape(videos, width)
        if columns.protocol.unmatched == "full":
            return objects, np.ones(videos)
        inside, total = (
            np.count_nonzero(some) - np.bincount(self.of_object[some], minlength=videos)
            for some in (sought.inside, np.ones_like(sought.inside))
        )
        return objects, np.array([elsewhere_weight(*each) for each in zip(inside, total, strict=True)])

    def areas(self, found: Doubles, wrong: Doubles, objects: Ints, weight: Doubles, area: Area) -> Doubles:
        """Average precision of every class without each video.

        Args:
            found: (D,) 1 for a true positive.
            wrong: (D,) weight as a false positive.
            objects: of `objects_left`.
            weight: of `objects_left`.
            area: of a ranking.

        Returns:
            (V, C + 1), NaN for a class without objects.
        """
        areas = np.full(objects.shape, np.nan)
        for class_id in np.flatnonzero(objects.any(axis=0)).tolist():
            own, elsewhere = self.members[class_id], self.elsewhere[class_id]
            videos, width = elsewhere.shape
            bins = self.ranking.bins[own] - self.ranking.offsets[class_id]
            hits, misses = (np.bincount(bins, each[own], minlength=width) for each in (found, wrong))
            for some in np.array_split(np.arange(videos), min(videos, videos * width // _AT_ONCE + 1)):
                inside = (self.video[own] >= some[0]) & (self.video[own] <= some[-1])
                place = (self.video[own][inside] - some[0]) * width + bins[inside]
                taken, mistaken = (
                    np.bincount(place, each[own][inside], minlength=len(some) * width).reshape(-1, width)
                    for each in (found, wrong)
                )
                others = (elsewhere.sum(axis=0) - elsewhere[some]) * weight[some, None]
                down = (hits - taken)[:, 1::2][:, ::-1].cumsum(axis=1)
                upto = (misses - mistaken + others)[:, ::-1].cumsum(axis=1)[:, 1::2]
                left = objects[some, class_id]
                values = area(down, upto, np.maximum(left, 1))
                areas[some, class_id] = np.where(left > 0, values, np.nan)
        return areas
