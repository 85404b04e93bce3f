"""Scores of boxes, in the two forms that predictions come in, and their orders.

A localization scores every box for every class: ``ScoreTable`` keeps one row of scores a segment,
however many frames it is in, and never repeats a box for its classes. Other methods' detections
have one class and one score each: ``ScoreList``. Metrics see one interface.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints, offsets_of, spans

Scores = npt.NDArray[np.floating]

Ties = Literal["earlier", "reference", "group", "later"]
"""Equal scores.

``earlier``: those first that stand first in the list of video, frame and segment, which a stable sort
gives, as in pycocotools and its like; predictions are brought into that order, so that the result depends
on no machine or shard. ``later``: the other way round. ``reference``: as numpy's unstable
``argsort()[::-1]`` leaves them on this processor. ``group``: they are one step of the ranking.
"""


@dataclass(frozen=True)
class ClassScores:
    """The detections of one class: boxes that share a score row are tied.

    Attributes:
        values: (n,) score rows.
        boxes: (m,) int64, boxes detected as the class, ascending.
        rows: (m,) int64 in [0, n), the score row of each of these boxes.
    """

    values: Scores
    boxes: Ints
    rows: Ints


class BoxScores(ABC):
    """Scores of B boxes over the classes 0 to C."""

    @property
    @abstractmethod
    def classes(self) -> int:
        """Number of foreground classes C."""

    @property
    @abstractmethod
    def labels(self) -> Ints:
        """(B,) the only class that each box is detected as; -1 if it is detected as every class."""

    @property
    @abstractmethod
    def top(self) -> tuple[Ints, Scores]:
        """(B,) best foreground class of every box (the first of equals) and its score."""

    @abstractmethod
    def rows_of_class(self, class_id: int) -> tuple[Scores, Ints]:
        """Return the scores of a class, (n,), and how many boxes have each, (n,)."""

    @abstractmethod
    def boxes_of_rows(self, class_id: int, rows: Ints) -> tuple[Ints, Ints]:
        """Return the boxes of some rows of `rows_of_class`, (m,), and the place of each one's row, (m,)."""

    @abstractmethod
    def of_class(self, class_id: int) -> ClassScores:
        """Return all detections of one class."""

    @abstractmethod
    def of_pairs(self, boxes: Ints, class_ids: Ints) -> Scores:
        """(P,) score of each box for the class beside it, which it is detected as."""

    @abstractmethod
    def named_once(self) -> ScoreList:
        """Keep each box under its most probable class only (the first of equals), 0 to C."""

    @abstractmethod
    def keep(self, boxes: Ints) -> Self:
        """Return the scores of some boxes, in the order given; a box may come more than once."""

    @abstractmethod
    def renamed(self, class_ids: Ints) -> Self:
        """Return the scores if each box had the best one for the class beside it, (B,)."""

    @abstractmethod
    def certain(self, class_ids: Ints) -> Self:
        """Return scores of boxes that are these classes, (N,), each higher than any of these scores."""

    @abstractmethod
    def joined(self, other: Self) -> Self:
        """Return these scores, and behind them those of other boxes of the same form."""


@dataclass(frozen=True)
class ScoreTable(BoxScores):
    """Scores of every box for every class.

    Attributes:
        values: (R, C + 1), one row of scores a segment; their float type is kept.
        row: (B,) int64 in [0, R), the segment of each box.
    """

    values: Scores
    row: Ints

    @property
    def classes(self) -> int:
        return int(self.values.shape[1]) - 1

    @property
    def labels(self) -> Ints:
        return np.full(len(self.row), -1)

    @cached_property
    def top(self) -> tuple[Ints, Scores]:
        if not self.classes:
            return np.zeros_like(self.row), np.zeros(len(self.row), np.float32)
        # The background column is left out.
        best = self.values[:, 1:].argmax(axis=1) + 1
        return best[self.row], self.values[np.arange(len(best)), best][self.row]

    @cached_property
    def boxes_of_row(self) -> Ints:
        """(R,) boxes that share each row."""
        return np.bincount(self.row, minlength=len(self.values))

    def rows_of_class(self, class_id: int) -> tuple[Scores, Ints]:
        return np.ascontiguousarray(self.values[:, class_id]), self.boxes_of_row

    @cached_property
    def boxes_by_row(self) -> Ints:
        """(B,) the boxes of each row, row by row."""
        return np.argsort(self.row, kind="stable")

    def boxes_of_rows(self, class_id: int, rows: Ints) -> tuple[Ints, Ints]:
        counts = self.boxes_of_row[rows]
        boxes = self.boxes_by_row[spans(offsets_of(self.boxes_of_row)[rows], counts)]
        return boxes, np.repeat(np.arange(len(rows)), counts)

    def of_class(self, class_id: int) -> ClassScores:
        return ClassScores(self.values[:, class_id], np.arange(len(self.row)), self.row)

    def of_pairs(self, boxes: Ints, class_ids: Ints) -> Scores:
        return self.values[self.row[boxes], class_ids]

    def named_once(self) -> ScoreList:
        best = self.values.argmax(axis=1)
        return ScoreList(best[self.row], self.values[np.arange(len(best)), best][self.row], self.classes)

    def keep(self, boxes: Ints) -> ScoreTable:
        return ScoreTable(self.values, self.row[boxes])

    def renamed(self, class_ids: Ints) -> ScoreTable:
        # A row for each box, in which its best class and the new one change scores.
        best, score = self.top
        values, rows = self.values[self.row], np.arange(len(self.row))
        values[rows, best] = values[rows, class_ids]
        values[rows, class_ids] = score
        changed = ScoreTable(values, rows)
        tied = np.flatnonzero(changed.top[0] != class_ids)
        values[tied, class_ids[tied]] = np.nextafter(score[tied], np.float32(np.inf))
        return ScoreTable(values, rows)

    def certain(self, class_ids: Ints) -> ScoreTable:
        # All other classes are below any score.
        low, high = self.values.min(initial=0) - 1, self.values.max(initial=0) + 1
        values = np.full((len(class_ids), self.values.shape[1]), low, self.values.dtype)
        values[np.arange(len(class_ids)), class_ids] = high
        return ScoreTable(values, np.arange(len(class_ids)))

    def joined(self, other: ScoreTable) -> ScoreTable:
        if other.values is self.values:
            return ScoreTable(self.values, np.concatenate([self.row, other.row]))
        values = np.concatenate([self.values, other.values])
        return ScoreTable(values, np.concatenate([self.row, other.row + len(self.values)]))


@dataclass(frozen=True)
class ScoreList(BoxScores):
    """A class and a score for every box, as in COCO results or the ILSVRC devkit's text.

    Attributes:
        class_ids: (B,) int64 in [0, C].
        values: (B,) scores; their float type is kept, as rounding makes ties.
        class_count: C.
    """

    class_ids: Ints
    values: Scores
    class_count: int

    @property
    def classes(self) -> int:
        return self.class_count

    @property
    def labels(self) -> Ints:
        return self.class_ids

    @property
    def top(self) -> tuple[Ints, Scores]:
        return self.class_ids, self.values

    def rows_of_class(self, class_id: int) -> tuple[Scores, Ints]:
        values = self.values[self.class_ids == class_id]
        return values, np.ones(len(values), np.int64)

    def boxes_of_rows(self, class_id: int, rows: Ints) -> tuple[Ints, Ints]:
        return np.flatnonzero(self.class_ids == class_id)[rows], np.arange(len(rows))

    def of_class(self, class_id: int) -> ClassScores:
        boxes = np.flatnonzero(self.class_ids == class_id)
        return ClassScores(self.values[boxes], boxes, np.arange(len(boxes)))

    def of_pairs(self, boxes: Ints, class_ids: Ints) -> Scores:
        return self.values[boxes]

    def named_once(self) -> ScoreList:
        return self

    def keep(self, boxes: Ints) -> ScoreList:
        return ScoreList(self.class_ids[boxes], self.values[boxes], self.class_count)

    def renamed(self, class_ids: Ints) -> ScoreList:
        return ScoreList(class_ids, self.values, self.class_count)

    def certain(self, class_ids: Ints) -> ScoreList:
        high = self.values.max(initial=0) + 1
        return ScoreList(class_ids, np.full(len(class_ids), high, self.values.dtype), self.class_count)

    def joined(self, other: ScoreList) -> ScoreList:
        class_ids = np.concatenate([self.class_ids, other.class_ids])
        return ScoreList(class_ids, np.concatenate([self.values, other.values]), self.class_count)


def descending(values: Scores, ties: Ties) -> Ints:
    """Order by falling score along the last axis.

    Args:
        values: (..., n) scores.
        ties: any but ``group``, which is no order.
    """
    exact = values.astype(np.float64)
    if ties == "earlier":
        return np.argsort(-exact, axis=-1, kind="stable")
    kind: Literal["stable", "quicksort"] = "stable" if ties == "later" else "quicksort"
    return np.argsort(exact, axis=-1, kind=kind)[..., ::-1]


def descending_in_lists(values: Scores, counts: Ints, ties: Ties) -> Ints:
    """Order every list of a ragged array by falling score.

    Lists of one length are sorted as the rows of a matrix, each exactly as if it were alone.

    Args:
        values: (n,) scores, list by list.
        counts: (F,) length of each list.
        ties: any but ``group``.

    Returns:
        (n,) indices into ``values``, list by list.
    """
    order = np.arange(len(values))
    starts = offsets_of(counts)[:-1]
    for length in np.unique(counts[counts > 1]):
        rows = starts[counts == length][:, None] + np.arange(length)
        order[rows] = np.take_along_axis(rows, descending(values[rows], ties), axis=1)
    return order


def class_order(detections: ClassScores, frames: Ints, ties: Ties) -> Ints:
    """Order all detections of a class over all frames.

    Args:
        detections: m detections of one class, frame by frame.
        frames: (m,) the frame of each.
        ties: any but ``group``.

    Returns:
        (m,) positions in ``detections.boxes``, best first.
    """
    scores = detections.values[detections.rows]
    if ties != "reference":
        return descending(scores, ties)
    # The reference sorts each frame before it sorts them all, which matters as neither is stable.
    listed = descending_in_lists(scores, np.bincount(frames), ties)
    return listed[descending(scores[listed], ties)]
