"""Predictions and truth of many frames side by side, as the metrics read them.

What a protocol says about space, absent segments and generated boxes is applied here, once; the
metrics themselves only compare.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of
from ovvol_bench.data.transforms import target_size
from ovvol_bench.detections import Detections
from ovvol_bench.errors import ContractError, DataError
from ovvol_bench.metrics.boxes import box_areas, checked, paired_iou
from ovvol_bench.metrics.protocols import Protocol
from ovvol_bench.metrics.scores import BoxScores, ScoreList, ScoreTable
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.predictions import Predictions
from ovvol_bench.types import ClipInfo

GRID = 1024
"""Predicted boxes in input pixels are rounded to this fraction of a pixel: mapping them to the
original frame and back leaves float32 noise, which would decide overlaps that are exactly at a
threshold."""

InputSize = Callable[[tuple[int, int]], tuple[int, int]]


@dataclass(frozen=True)
class BestOverlap:
    """The box that overlaps most with each of M true objects, in the object's frame.

    Attributes:
        iou: (M,) float32, 0 where the frame has no box.
        box: (M,) int64 index of the first such box, -1 where the frame has none.
    """

    iou: Floats
    box: Ints


@dataclass(frozen=True)
class TruthColumns:
    """M true objects of F frames, frame by frame.

    Attributes:
        counts: (F,) int64, objects of each frame.
        boxes: (M, 4) float32, in the space of the protocol.
        classes: (M,) int64 in [1, C].
        ignored: (M,) bool, objects that are neither to be found nor to be missed.
        motion: (M,) float32 motion IoU, NaN where unknown.
        table: what is known of these objects beside their boxes; None if nothing is.
    """

    counts: Ints
    boxes: Floats
    classes: Ints
    ignored: Bools
    motion: Floats
    table: TruthTable | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """(M,) square pixels of each object's box in the original frame, ends inclusive."""
        return box_areas(self.boxes if self.table is None else self.table.boxes, offset=1)

    @cached_property
    def frame(self) -> Ints:
        """(M,) frame of each object."""
        return np.repeat(np.arange(len(self.counts)), self.counts)


@dataclass(frozen=True)
class Columns:
    """F frames with B predicted boxes and M true ones, in the space of the protocol.

    Attributes:
        protocol: the conventions that the columns were made under.
        box_counts: (F,) int64, predicted boxes of each frame.
        boxes: (B, 4) float32, frame by frame.
        scores: of the boxes.
        truth: the true objects.
        absent: predicted segments that their frame does not show, counted as boxes or not.
    """

    protocol: Protocol
    box_counts: Ints
    boxes: Floats
    scores: BoxScores
    truth: TruthColumns
    absent: int = 0

    def __len__(self) -> int:
        return len(self.box_counts)

    @cached_property
    def frame(self) -> Ints:
        """(B,) frame of each box."""
        return np.repeat(np.arange(len(self)), self.box_counts)

    @cached_property
    def sought(self) -> Bools:
        """(M,) bool, the true objects that CorLoc, DetRate and naming look for."""
        return ~self.truth.ignored & ~self._padding(self.truth.boxes)

    @cached_property
    def empty(self) -> Bools:
        """(B,) bool, boxes that stand for none: without area, as absent segments have, or padding."""
        return (box_areas(self.boxes, self.protocol.overlap_offset) <= 0) | self._padding(self.boxes)

    @cached_property
    def best(self) -> BestOverlap:
        """The best box of every true object, whatever its class."""
        truth = self.truth
        low, count = offsets_of(self.box_counts)[truth.frame], self.box_counts[truth.frame]
        best, first = np.zeros(len(truth), np.float32), np.where(count > 0, low, -1)
        padding = self._padding(self.boxes)
        true = np.arange(len(truth))
        # The first box of each object's frame, then the second: all pairs at once would be many.
        for turn in range(int(count.max(initial=0))):
            true = true[count[true] > turn]
            box = low[true] + turn
            iou = paired_iou(truth.boxes, true, self.boxes, box, self.protocol.overlap_offset)
            iou[padding[box]] = 0
            better = iou > best[true]
            best[true[better]], first[true[better]] = iou[better], box[better]
        return BestOverlap(best, first)

    def hits(self, iou_threshold: float) -> Bools:
        """(M,) bool, sought true objects that some box of their frame meets with IoU > ``iou_threshold``."""
        hits: Bools = (self.best.iou > np.float32(iou_threshold)) & self.sought
        return hits

    def nameless(self) -> Columns:
        """Take all classes for one: each box once, with its best foreground score."""
        _, score = self.scores.top
        scores = ScoreList(np.ones(len(score), np.int64), score, 1)
        return replace(
            self, scores=scores, truth=replace(self.truth, classes=np.ones_like(self.truth.classes))
        )

    def named_once(self) -> Columns:
        """Keep each box under its most probable class only, the background included."""
        return replace(self, scores=self.scores.named_once())

    def top_boxes(self) -> Columns:
        """Keep the box with the highest foreground score of every frame (the first of equals)."""
        _, score = self.scores.top
        some = self.box_counts > 0
        starts, counts = offsets_of(self.box_counts)[:-1][some], np.minimum(self.box_counts, 1)
        if not len(starts):
            return self
        highest = np.repeat(np.maximum.reduceat(score, starts), self.box_counts[some])
        equal = np.flatnonzero(score == highest)
        top = equal[np.searchsorted(equal, starts)]
        return replace(self, box_counts=counts, boxes=self.boxes[top], scores=self.scores.keep(top))

    def _padding(self, boxes: Floats) -> Bools:
        padding: Bools = (boxes[:, 0] == -1) & self.protocol.padding
        return padding


def build_columns(
    predictions: Predictions, truth: Sequence[ClipInfo] | TruthTable, protocol: Protocol
) -> Columns:
    """Lay predictions and truth side by side.

    Args:
        predictions: of L clips.
        truth: the same L clips, in the same order. A clip without truth counts as one without objects.
        protocol: what is compared where.

    Raises:
        ContractError: if the protocol needs the size of the models' input and a clip lacks it.
        DataError: if a box is inverted, a score is no number, or a truth's class is not in the vocabulary.
    """
    table = truth if isinstance(truth, TruthTable) else TruthTable.of(truth)
    _check_values(predictions)
    scales = np.ones((len(predictions), 2))
    if protocol.space == "input":
        unknown = np.flatnonzero((predictions.input_sizes <= 0).any(axis=1))
        if len(unknown):
            raise ContractError(
                f"clip '{predictions.clip_ids[unknown[0]]}' has no input size; protocol {protocol.name} "
                "compares boxes in input pixels, so Localization.input_size must be (height, width)"
            )
        scales = (predictions.input_sizes / predictions.frame_sizes)[:, ::-1]
    boxes = _scaled(predictions.boxes, scales, predictions.counts("boxes"))
    rows, segments = (
        predictions.segment_of_box,
        np.repeat(predictions.segment_counts, predictions.frame_counts),
    )
    present = predictions.present
    absent = int(np.count_nonzero(~present))
    if absent and protocol.absent_boxes:
        boxes[~present] = 0
    elif absent:
        frame = np.repeat(np.arange(len(segments)), segments)[present]
        boxes, rows, segments = boxes[present], rows[present], np.bincount(frame, minlength=len(segments))
    columns = Columns(
        protocol=protocol,
        box_counts=segments,
        boxes=boxes,
        scores=ScoreTable(predictions.probabilities, rows),
        truth=_truth(table, scales, predictions.frame_counts, protocol),
        absent=absent,
    )
    check_classes(columns.truth.classes, columns.scores.classes)
    return columns


def detection_columns(
    detections: Detections, table: TruthTable, protocol: Protocol, input_size: InputSize = target_size
) -> Columns:
    """Lay detections and truth side by side.

    Args:
        detections: in the frames of the table.
        table: truth of clips in order (see ``detections.in_order``), without context frames.
        protocol: what is compared where.
        input_size: the size of the models' input, (height, width), for a frame of a size: files don't say
            it. By default the reference's, short side 224 and long side a multiple of 16.

    Raises:
        DataError: if a box is inverted, a score is no number, or a truth's class is not in the vocabulary.
    """
    check_boxes(detections)
    frames = detections.frames
    scales = np.ones((len(frames.videos), 2))
    if protocol.space == "input":
        inputs = np.array([input_size((h, w)) for h, w in frames.sizes.tolist()], float).reshape(-1, 2)
        scales = (inputs / frames.sizes)[:, ::-1]
    values, rows = detections.score_table, np.arange(len(detections))
    scores: BoxScores = ScoreList(detections.class_ids, detections.scores, detections.classes)
    if values is not None:  # each box comes once for every class: only the first of these is a box
        rows, scores = rows[:: len(rows) // len(values)], ScoreTable(values, np.arange(len(values)))
    counts = np.bincount(detections.video[rows], minlength=len(scales))
    boxes = _scaled(_of_whole_pixels(detections.boxes[rows].astype(np.float32)), scales, counts)
    absent = detections.absent[rows]
    boxes[absent] = 0
    keep = np.flatnonzero(~absent | protocol.absent_boxes)
    columns = Columns(
        protocol=protocol,
        box_counts=np.bincount(detections.frame[rows[keep]], minlength=len(frames)),
        boxes=boxes[keep],
        scores=scores.keep(keep),
        truth=_truth(table, scales, np.bincount(frames.video, minlength=len(scales)), protocol),
        absent=int(absent.sum()),
    )
    check_classes(columns.truth.classes, columns.scores.classes)
    return columns


def _check_values(predictions: Predictions) -> None:
    """Refuse boxes whose overlap and scores whose rank is undefined.

    Raises:
        DataError: naming the clip of the first box that is inverted or not finite, or of the first
            score that is no number.
    """

    def clip_of(row: int, unit: str) -> str:
        ends = np.cumsum(predictions.counts(unit))
        return f"clip '{predictions.clip_ids[np.searchsorted(ends, row, side='right')]}'"

    checked(predictions.boxes, lambda row: f"prediction of {clip_of(row, 'boxes')}")
    undefined = np.isnan(predictions.probabilities)
    if undefined.any():
        row = int(np.argmax(undefined.any(axis=1)))
        raise DataError(
            f"probabilities of {clip_of(row, 'segments')} are not numbers; expected [0, 1]. "
            "Did a model return NaN?"
        )


def _scaled(boxes: Floats, scales: npt.NDArray[np.float64], counts: Ints) -> Floats:
    """Return a copy of boxes, scaled as areas of whole pixels.

    Args:
        boxes: (B, 4), part by part.
        scales: (L, 2) factors (x, y) of each part.
        counts: (L,) boxes of each part.
    """
    if (scales == 1).all():
        return boxes.copy()
    scale, edge = np.repeat(np.tile(scales, 2), counts, axis=0), np.array([0, 0, 1, 1])
    # An inclusive end is one pixel short of its edge.
    scaled = np.round(((boxes + edge) * scale - edge) * GRID) / GRID
    same = np.repeat((scales == 1).all(axis=1), counts)
    scaled[same] = boxes[same]
    rounded: Floats = scaled.astype(np.float32)
    return rounded


def _truth(
    table: TruthTable, scales: npt.NDArray[np.float64], frames: Ints, protocol: Protocol
) -> TruthColumns:
    """Lay out truth whose frames are in parts of (L,) frames, with (L, 2) factors of each part."""
    boxes = _of_whole_pixels(table.boxes)
    if not (scales == 1).all():
        scale = np.tile(scales, 2).astype(np.float32).repeat(frames, axis=0).repeat(table.counts, axis=0)
        boxes = boxes * scale
    ignored = table.generated & protocol.ignore_generated
    return TruthColumns(table.counts, boxes, table.classes, ignored, table.motion, table)


def _of_whole_pixels(boxes: Floats) -> Floats:
    """Widen boxes thinner than a pixel to one pixel: less has no area where ends are inclusive."""
    low, high = boxes[:, :2], boxes[:, 2:]
    if (low <= high).all():
        return boxes
    widened: Floats = np.concatenate([low, np.maximum(low, high)], axis=1)
    return widened


def check_boxes(detections: Detections) -> None:
    """Refuse boxes whose overlap is undefined.

    Raises:
        DataError: naming the frame of the first box that is inverted or not finite.
    """
    frames = detections.frames
    checked(
        detections.boxes, lambda row: f"detection in {frames.name(int(detections.frame[row]))}", thin=True
    )


def check_classes(classes: Ints, known: int) -> None:
    """Refuse true objects of classes that predictions can't name.

    Args:
        classes: (M,) of the true objects.
        known: number of classes of the predictions.

    Raises:
        DataError: naming the first class that is not in 1 to ``known``.
    """
    wrong = classes[(classes < 1) | (classes > known)]
    if len(wrong):
        raise DataError(
            f"truth of class {wrong[0]}; expected 1 to {known}, the classes of the predictions. "
            "Were the predictions made with another vocabulary?"
        )
