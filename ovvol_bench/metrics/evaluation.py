"""Scoring of stored predictions: all metrics in one go, columns made once a protocol."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ovvol_bench.data.transforms import target_size
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError, SettingError, calling
from ovvol_bench.metrics.base import ClipMetric, ColumnMetric, DetectionMetric, Metric, MetricValue
from ovvol_bench.metrics.columns import Columns, InputSize, build_columns, detection_columns
from ovvol_bench.metrics.corloc import BoxesPerFrame, CorLoc
from ovvol_bench.metrics.detrate import DetectionRate
from ovvol_bench.metrics.masks import MaskMetric
from ovvol_bench.metrics.naming import NamingAccuracy
from ovvol_bench.metrics.protocols import ProtocolName, protocol_of
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.vid_ap import VidAP
from ovvol_bench.predictions import Predictions, predicted_frames
from ovvol_bench.types import ClipInfo

if TYPE_CHECKING:
    from ovvol_bench.naming.vocabulary import Vocabulary


OF_DETECTIONS = (ColumnMetric, DetectionMetric, MaskMetric)
"""The kinds of metric that score other programs' detections."""


def default_metrics(
    vocabulary: Vocabulary | None = None, protocols: Sequence[ProtocolName] = ("vid-reference", "vid-devkit")
) -> list[Metric]:
    """Build the metrics of boxes and names under some protocols.

    Args:
        vocabulary: whose held-out classes are reported apart.
        protocols: ids.
    """
    held_out = held_out_ids(vocabulary) if vocabulary else ()
    return [
        metric
        for protocol in protocols
        for metric in (
            CorLoc(protocol=protocol, box="any"),
            CorLoc(protocol=protocol, box="top1"),
            DetectionRate(protocol=protocol),
            VidAP(protocol=protocol, held_out=held_out),
            BoxesPerFrame(protocol=protocol),
            NamingAccuracy(protocol=protocol, held_out=held_out),
        )
    ]


def held_out_ids(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the class ids that a vocabulary marks as kept out of training."""
    return tuple(index for index, each in enumerate(vocabulary.classes, 1) if each.held_out)


def evaluate(
    predictions: Predictions, truth: Mapping[str, ClipInfo] | TruthTable, metrics: Sequence[Metric]
) -> dict[str, MetricValue]:
    """Score predictions with metrics.

    Args:
        predictions: of any clips, in any order.
        truth: what the dataset says about these clips, by id; further clips are not looked at, so
            that the predictions decide what is scored (coverage is the caller's to report).
        metrics: fresh ones; the built-in ones share their columns, others are fed clip by clip.

    Returns:
        Every number by ``name@protocol``, in the order of the metrics.

    Raises:
        DataError: if a clip is unknown, has other frames than its prediction, or lacks truth.
        SettingError: if two metrics give a number of the same name.
    """
    predictions = predictions.in_order()
    table = table_of(predictions, truth)
    columns: dict[str, Columns] = {}

    def score(metric: Metric) -> Mapping[str, MetricValue]:
        if isinstance(metric, ClipMetric):
            _check_truth(metric, table)
        if isinstance(metric, ColumnMetric):
            if metric.protocol not in columns:
                columns[metric.protocol] = build_columns(predictions, table, protocol_of(metric.protocol))
            return metric.score(columns[metric.protocol])
        if isinstance(metric, ClipMetric):
            return metric.score_clips(predictions, table)
        with calling(f"metric {type(metric).__name__}"):
            for clip, info in zip(predictions, table.infos, strict=True):
                metric.update(clip.localization, info)
            return metric.compute()

    return _by_key((metric, score(metric)) for metric in metrics)


def evaluate_detections(
    detections: Detections,
    truth: Sequence[ClipInfo],
    metrics: Sequence[Metric],
    input_size: InputSize = target_size,
) -> dict[str, MetricValue]:
    """Score another program's detections.

    Args:
        detections: in all frames of the truth.
        truth: clips in order (see ``detections.in_order``).
        metrics: fresh ones of boxes, masks or tracks.
        input_size: of the models' input, see ``detection_columns``.

    Returns:
        Every number by ``name@protocol``, in the order of the metrics.

    Raises:
        DataError: if truth is missing or doesn't fit the detections.
        SettingError: if a metric needs what detections don't have, as slots, or two give the same number.
    """
    table = TruthTable.of(truth)
    columns: dict[str, Columns] = {}

    def score(metric: Metric) -> Mapping[str, MetricValue]:
        if not isinstance(metric, OF_DETECTIONS):
            raise SettingError(
                f"metric {type(metric).__name__} looks at slots, which detections don't have; leave it out "
                "or score a run or a predictions file of this project's"
            )
        _check_truth(metric, table)
        if isinstance(metric, DetectionMetric):
            return metric.score(detections.labelled(metric.labels), table)
        if isinstance(metric, MaskMetric):
            return metric.score_detections(detections.labelled("top1"), table)
        if metric.protocol not in columns:
            protocol = protocol_of(metric.protocol)
            columns[metric.protocol] = detection_columns(detections, table, protocol, input_size)
        return metric.score(columns[metric.protocol])

    return _by_key((metric, score(metric)) for metric in metrics)


def _by_key(scored: Iterable[tuple[Metric, Mapping[str, MetricValue]]]) -> dict[str, MetricValue]:
    """Collect every number by ``name@protocol``."""
    results: dict[str, MetricValue] = {}
    for metric, values in scored:
        for name, value in values.items():
            key = f"{name}@{metric.protocol}"
            if key in results:
                raise SettingError(f"two metrics give '{key}'; leave one of them out")
            results[key] = replace(value, higher_is_better=metric.higher_is_better)
    return results


def _check_truth(metric: ClipMetric | MaskMetric, table: TruthTable) -> None:
    for info in table.bare:
        metric.check_truth(info)


def table_of(predictions: Predictions, truth: Mapping[str, ClipInfo] | TruthTable) -> TruthTable:
    """Return the truth of the predicted frames: of the predicted clips, in their order.

    Frames of these clips without a prediction, since they could not be read, are left out.

    Raises:
        DataError: if a clip is unknown or has other frames than its prediction.
    """
    known = truth.row if isinstance(truth, TruthTable) else truth
    unknown = [clip for clip in predictions.clip_ids if clip not in known]
    if unknown:
        raise DataError(
            f"clip '{unknown[0]}' has a prediction but is not in the dataset. Were the predictions made "
            "with another split or clip length?"
        )
    if isinstance(truth, TruthTable):
        table = truth.select(np.array([truth.row[clip] for clip in predictions.clip_ids], np.int64))
    else:
        table = TruthTable.of([truth[clip] for clip in predictions.clip_ids])
    if _same_clips(predictions, table):
        return table
    pairs = zip(table.infos, predictions.identities(), strict=True)
    table = TruthTable.of([predicted_frames(info, clip.frame_indices) for info, clip in pairs])
    if _same_clips(predictions, table):
        return table
    for clip, info in zip(predictions.identities(), table.infos, strict=True):
        for name in ("video", "frame_indices", "frame_size"):
            if getattr(info, name) != getattr(clip, name):
                raise DataError(
                    f"clip '{clip.id}': {name} is {getattr(clip, name)} in the predictions and "
                    f"{getattr(info, name)} in the dataset; expected the same"
                )
    return table


def _same_clips(predictions: Predictions, table: TruthTable) -> bool:
    names = ("frame_counts", "frame_indices", "frame_sizes")
    same = all(np.array_equal(getattr(table, name), getattr(predictions, name)) for name in names)
    return same and table.videos == predictions.videos
