"""Score stored predictions: all metrics in one go, columns made once a protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ovvol_bench.benchmark import Metric, MetricValue
from ovvol_bench.data.transforms import target_size
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError, SettingError, calling
from ovvol_bench.metrics.accumulators import (
    BoxesPerFrame,
    CorLoc,
    DetectionRate,
    NamingAccuracy,
    VidAP,
)
from ovvol_bench.metrics.bases import ClipMetric, ColumnMetric, DetectionMetric
from ovvol_bench.metrics.columns import Columns, InputSize, build_columns, detection_columns
from ovvol_bench.metrics.mask_accumulators import MaskMetric
from ovvol_bench.metrics.protocols import PROTOCOLS, protocol_of
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.predictions import Predictions, predicted_frames
from ovvol_bench.types import ClipInfo

if TYPE_CHECKING:
    from ovvol_bench.naming.vocabulary import Vocabulary


OF_DETECTIONS = (ColumnMetric, DetectionMetric, MaskMetric)
"""The kinds of metric that score other programs' detections."""


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
        if isinstance(metric, ColumnMetric):
            return metric.score(_columns(metric, predictions, table, columns))
        if isinstance(metric, ClipMetric):
            _check_truth(metric, table)
            return metric.score_clips(predictions, table)
        return _feed(metric, predictions, table.infos)

    return _named((metric, score(metric)) for metric in metrics)


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

    return _named((metric, score(metric)) for metric in metrics)


def evaluate_pieces(
    pieces: Callable[[], Iterable[Predictions]],
    truth: Mapping[str, ClipInfo] | TruthTable,
    metrics: Sequence[ColumnMetric],
) -> dict[str, MetricValue]:
    """Score predictions that are read piece by piece, in the memory of one piece.

    Args:
        pieces: starts a passage through all predictions; called twice.
        truth: what the dataset says about these clips, as for ``evaluate``. A mapping is asked for
            each clip when its piece comes, so it may make the clips as they are needed.
        metrics: those that have a ``stream``.

    Returns:
        What ``evaluate`` gives, but for rounding: sums are taken in another order.

    Raises:
        DataError: as ``evaluate``, or if a clip is in two pieces.
        SettingError: if a metric must see all predictions at once.
    """
    streams = [(metric, metric.stream()) for metric in metrics]
    for passage in ("survey", "add"):
        seen: set[str] = set()
        for piece in pieces():
            _check_new(piece, seen)
            predictions = piece.in_order()
            table, columns = table_of(predictions, truth), dict[str, Columns]()
            for metric, stream in streams:
                getattr(stream, passage)(_columns(metric, predictions, table, columns))
    return _named((metric, stream.result()) for metric, stream in streams)


def _check_new(piece: Predictions, seen: set[str]) -> None:
    again = seen.intersection(piece.clip_ids)
    if again:
        raise DataError(
            f"clip '{min(again)}' is in two pieces of the predictions; expected one. Read them all at once: "
            "repeated clips are left out then"
        )
    seen.update(piece.clip_ids)


def default_metrics(
    vocabulary: Vocabulary | None = None, protocols: Sequence[str] = tuple(PROTOCOLS)
) -> list[Metric]:
    """The built-in metrics under some protocols.

    Args:
        vocabulary: whose held-out classes are reported apart.
        protocols: ids.
    """
    held_out = held_out_ids(vocabulary) if vocabulary else ()
    return [
        metric
        for protocol in protocols
        for metric in (
            CorLoc(protocol, "any"),
            CorLoc(protocol, "top1"),
            DetectionRate(protocol),
            VidAP(protocol, held_out=held_out),
            BoxesPerFrame(protocol),
            NamingAccuracy(protocol, held_out=held_out),
        )
    ]


def held_out_ids(vocabulary: Vocabulary) -> tuple[int, ...]:
    """Class ids that a vocabulary marks as kept out of training."""
    return tuple(index for index, each in enumerate(vocabulary.classes, 1) if each.held_out)


def _named(scored: Iterable[tuple[Metric, Mapping[str, MetricValue]]]) -> dict[str, MetricValue]:
    """Every number by ``name@protocol``."""
    results: dict[str, MetricValue] = {}
    for metric, values in scored:
        for name, value in values.items():
            key = f"{name}@{metric.protocol}"
            if key in results:
                raise SettingError(f"two metrics give '{key}'; leave one of them out")
            results[key] = replace(value, higher_is_better=metric.higher_is_better)
    return results


def _columns(
    metric: ColumnMetric, predictions: Predictions, table: TruthTable, columns: dict[str, Columns]
) -> Columns:
    """The columns that a metric is computed from, made once a protocol."""
    _check_truth(metric, table)
    if metric.protocol not in columns:
        columns[metric.protocol] = build_columns(predictions, table, protocol_of(metric.protocol))
    return columns[metric.protocol]


def _check_truth(metric: ClipMetric | MaskMetric, table: TruthTable) -> None:
    for info in table.bare:
        metric.check_truth(info)


def _feed(metric: Metric, predictions: Predictions, infos: Sequence[ClipInfo]) -> Mapping[str, MetricValue]:
    for clip, info in zip(predictions, infos, strict=True):
        with calling(f"metric {type(metric).__name__}"):
            metric.update(clip.localization, info)
    with calling(f"metric {type(metric).__name__}"):
        return metric.compute()


def table_of(predictions: Predictions, truth: Mapping[str, ClipInfo] | TruthTable) -> TruthTable:
    """The truth of the predicted frames: of the predicted clips, in their order.

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
    if not _same_clips(predictions, table):
        pairs = zip(table.infos, predictions.identities(), strict=True)
        table = TruthTable.of([predicted_frames(info, clip.frame_indices) for info, clip in pairs])
        _check_same_clips(predictions, table)
    return table


def _same_clips(predictions: Predictions, table: TruthTable) -> bool:
    columns = ("frame_counts", "frame_indices", "frame_sizes")
    same = all(np.array_equal(getattr(table, name), getattr(predictions, name)) for name in columns)
    return same and table.videos == predictions.videos


def _check_same_clips(predictions: Predictions, table: TruthTable) -> None:
    for clip, info in zip(predictions.identities(), table.infos, strict=True):
        for name in ("video", "frame_indices", "frame_size"):
            if getattr(info, name) != getattr(clip, name):
                raise DataError(
                    f"clip '{clip.id}': {name} is {getattr(clip, name)} in the predictions and "
                    f"{getattr(info, name)} in the dataset; expected the same"
                )
