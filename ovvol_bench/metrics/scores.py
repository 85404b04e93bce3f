"""Scores of boxes, in the two forms that predictions come in; the metrics see one interface.

A localization scores every box for every class: ``ScoreTable`` keeps one row of scores a segment,
however many frames it is in, and never repeats a box for its classes. Other methods' detections
have one class and one score each: ``ScoreList``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Ints

Scores = npt.NDArray[np.floating]


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

    @abstractmethod
    def rows_of_class(self, class_id: int) -> tuple[Scores, Ints]:
        """The scores of a class, (n,), and how many boxes have each, (n,)."""

    @abstractmethod
    def of_class(self, class_id: int) -> ClassScores:
        """All detections of one class."""

    @abstractmethod
    def of_pairs(self, boxes: Ints, class_ids: Ints) -> tuple[Bools, Scores]:
        """Whether each box is detected as the class beside it, and its score if so, both (P,)."""

    @abstractmethod
    def top(self) -> tuple[Ints, Scores]:
        """(B,) best foreground class of every box (the first of equals) and its score."""

    @abstractmethod
    def named_once(self) -> ScoreList:
        """Each box under its most probable class only (the first of equals), 0 to C."""

    @abstractmethod
    def keep(self, boxes: Ints) -> Self:
        """The scores of some boxes, in the order given; a box may come more than once."""

    @abstractmethod
    def renamed(self, class_ids: Ints) -> Self:
        """The scores if each box had the best one for the class beside it, (B,)."""

    @abstractmethod
    def certain(self, class_ids: Ints) -> Self:
        """Scores of boxes that are these classes, (N,), each higher than any of these scores."""

    @abstractmethod
    def joined(self, other: Self) -> Self:
        """These scores, and behind them those of other boxes of the same form."""


@dataclass(frozen=True)
class ScoreTable(BoxScores):
    """Every box is scored for every class.

    Attributes:
        values: (R, C + 1), one row of scores a segment; their float type is kept.
        row: (B,) int64 in [0, R), the segment of each box.
    """

    values: Scores
    row: Ints

    @property
    def classes(self) -> int:
        """Number of foreground classes C."""
        return int(self.values.shape[1]) - 1

    @property
    def labels(self) -> Ints:
        """-1 for every box."""
        return np.full(len(self.row), -1)

    @cached_property
    def boxes_of_row(self) -> Ints:
        """(R,) boxes that share each row."""
        return np.bincount(self.row, minlength=len(self.values))

    def rows_of_class(self, class_id: int) -> tuple[Scores, Ints]:
        """A column of the table."""
        return np.ascontiguousarray(self.values[:, class_id]), self.boxes_of_row

    def of_class(self, class_id: int) -> ClassScores:
        """All boxes, with their segments' scores."""
        return ClassScores(self.values[:, class_id], np.arange(len(self.row)), self.row)

    def of_pairs(self, boxes: Ints, class_ids: Ints) -> tuple[Bools, Scores]:
        """Every box is detected as every class."""
        return np.ones(len(boxes), np.bool_), self.values[self.row[boxes], class_ids]

    def top(self) -> tuple[Ints, Scores]:
        """Best column of 1 to C; the background column is left out."""
        if not self.classes:
            return np.zeros_like(self.row), np.zeros(len(self.row), np.float32)
        best = self.values[:, 1:].argmax(axis=1) + 1
        score = np.take_along_axis(self.values, best[:, None], axis=1)[:, 0]
        return best[self.row], score[self.row]

    def named_once(self) -> ScoreList:
        """The highest column of each row."""
        best = self.values.argmax(axis=1)
        score = np.take_along_axis(self.values, best[:, None], axis=1)[:, 0]
        return ScoreList(best[self.row], score[self.row], self.classes)

    def keep(self, boxes: Ints) -> ScoreTable:
        """The same table with other boxes."""
        return ScoreTable(self.values, self.row[boxes])

    def renamed(self, class_ids: Ints) -> ScoreTable:
        """A row for each box, in which its class and its best class have changed scores."""
        best, score = self.top()
        values, rows = self.values[self.row], np.arange(len(self.row))
        values[rows, best] = values[rows, class_ids]
        values[rows, class_ids] = score
        changed = ScoreTable(values, rows)
        tied = np.flatnonzero(changed.top()[0] != class_ids)
        values[tied, class_ids[tied]] = np.nextafter(score[tied], np.float32(np.inf))
        return changed

    def certain(self, class_ids: Ints) -> ScoreTable:
        """A row for each box, all other classes below any score."""
        low, high = self.values.min(initial=0) - 1, self.values.max(initial=0) + 1
        values = np.full((len(class_ids), self.values.shape[1]), low, self.values.dtype)
        values[np.arange(len(class_ids)), class_ids] = high
        return ScoreTable(values, np.arange(len(class_ids)))

    def joined(self, other: ScoreTable) -> ScoreTable:
        """One table; rows that both share are kept once."""
        if other.values is self.values:
            return ScoreTable(self.values, np.concatenate([self.row, other.row]))
        values = np.concatenate([self.values, other.values])
        return ScoreTable(values, np.concatenate([self.row, other.row + len(self.values)]))


@dataclass(frozen=True)
class ScoreList(BoxScores):
    """Every box has one class and one score, as in COCO results or the ILSVRC devkit's text.

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
        """Number of foreground classes C."""
        return self.class_count

    @property
    def labels(self) -> Ints:
        """The class of each box."""
        return self.class_ids

    def rows_of_class(self, class_id: int) -> tuple[Scores, Ints]:
        """A row for each box of the class."""
        values = self.values[self.class_ids == class_id]
        return values, np.ones(len(values), np.int64)

    def of_class(self, class_id: int) -> ClassScores:
        """The boxes of the class, each with a score of its own."""
        boxes = np.flatnonzero(self.class_ids == class_id)
        return ClassScores(self.values[boxes], boxes, np.arange(len(boxes)))

    def of_pairs(self, boxes: Ints, class_ids: Ints) -> tuple[Bools, Scores]:
        """A box is detected as its own class only."""
        return self.class_ids[boxes] == class_ids, self.values[boxes]

    def top(self) -> tuple[Ints, Scores]:
        """The box's own class and score."""
        return self.class_ids, self.values

    def named_once(self) -> ScoreList:
        """This list."""
        return self

    def keep(self, boxes: Ints) -> ScoreList:
        """The list of other boxes."""
        return ScoreList(self.class_ids[boxes], self.values[boxes], self.class_count)

    def renamed(self, class_ids: Ints) -> ScoreList:
        """The same scores for these classes."""
        return ScoreList(class_ids, self.values, self.class_count)

    def certain(self, class_ids: Ints) -> ScoreList:
        """One score for all of them."""
        high = self.values.max(initial=0) + 1
        return ScoreList(class_ids, np.full(len(class_ids), high, self.values.dtype), self.class_count)

    def joined(self, other: ScoreList) -> ScoreList:
        """One list."""
        class_ids = np.concatenate([self.class_ids, other.class_ids])
        return ScoreList(class_ids, np.concatenate([self.values, other.values]), self.class_count)
