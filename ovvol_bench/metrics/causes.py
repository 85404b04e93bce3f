"""What became of every true object and of every predicted box: exactly one cause for each.

The rules and their order are in docs/metrics.md, "Errors"; here they are words on columns of pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Floats, Ints, all_pairs
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.boxes import box_areas, paired_iou
from ovvol_bench.metrics.columns import Columns

Causes = npt.NDArray[np.int8]


class Cause(IntEnum):
    """Causes; of those that a pair of box and object can have, lower ones go first."""

    RIGHT = 0
    WRONG_NAME = 1
    PART = 2
    MERGED_OBJECTS = 3
    MERGED_BACKGROUND = 4
    MISPLACED = 5
    WRONG_BOTH = 6
    MISSED = 7
    BACKGROUND = 8
    DUPLICATE = 9
    IGNORED = 10
    EMPTY = 11

    @property
    def label(self) -> str:
        """The name in results."""
        return self.name.lower()


_AT_ONCE = 1 << 20
"""Pairs that are looked at together, about."""

UNRELATED = Cause.MISSED
"""What a pair comes to if box and object have nothing to do with each other."""

OF_PAIRS = tuple(cause for cause in Cause if cause < UNRELATED)
OF_OBJECTS = (*OF_PAIRS, Cause.MISSED, Cause.IGNORED)
OF_BOXES = (*OF_PAIRS, Cause.DUPLICATE, Cause.BACKGROUND, Cause.IGNORED, Cause.EMPTY)


@dataclass(frozen=True)
class Rules:
    """Where one cause ends and the next begins.

    Attributes:
        fit: an IoU above this is the right place.
        touch: from this IoU on a box has to do with an object; below ``fit``.
        most: a share above this is most of a box or of an object.
    """

    fit: float = 0.5
    touch: float = 0.1
    most: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.touch < self.fit:
            raise SettingError(
                f"touch is {self.touch}; expected above 0 and below the IoU threshold, {self.fit}"
            )
        if not 0 < self.most < 1:
            raise SettingError(f"most is {self.most}; expected above 0 and below 1")


@dataclass(frozen=True)
class Pairs:
    """P pairs of a box and a true object of one frame that overlap, box by box.

    Empty boxes and padding of the truth are in no pair.

    Attributes:
        box: (P,) int64, ascending.
        true: (P,) int64.
        iou: (P,) float32.
        of_box: (P,) float64, share of the box that lies in the object.
        of_object: (P,) float64, share of the object that lies in the box.
    """

    box: Ints
    true: Ints
    iou: Floats
    of_box: Doubles
    of_object: Doubles

    @classmethod
    def of(cls, columns: Columns) -> Pairs:
        """The pairs of columns, some frames at a time; overlap as for CorLoc, DetRate and naming."""
        ends = np.cumsum(columns.box_counts * columns.truth.counts)
        cuts = np.searchsorted(ends, np.arange(0, ends[-1], _AT_ONCE)) if len(ends) else ends
        spans = pairwise(np.unique([0, *cuts, len(columns)]).tolist())
        parts = [cls._of_frames(columns, slice(*span)) for span in spans]
        nothing = cls._of_frames(columns, slice(0, 0))
        return cls(*map(np.concatenate, zip(*map(_fields, [nothing, *parts]), strict=True)))

    @classmethod
    def _of_frames(cls, columns: Columns, frames: slice) -> Pairs:
        truth, offset = columns.truth, columns.protocol.overlap_offset
        box, true = all_pairs(columns.box_counts[frames], truth.counts[frames])
        box += columns.box_counts[: frames.start].sum()
        true += truth.counts[: frames.start].sum()
        iou = paired_iou(truth.boxes, true, columns.boxes, box, offset)
        real = (iou > 0) & ~columns.empty[box] & (columns.sought | truth.ignored)[true]
        box, true, iou = box[real], true[real], iou[real]
        shared = _shared(columns.boxes, box, truth.boxes, true, offset)
        of_box, of_object = (
            shared / box_areas(boxes[rows], offset)
            for boxes, rows in ((columns.boxes, box), (truth.boxes, true))
        )
        return cls(box, true, iou, of_box, of_object)

    def __len__(self) -> int:
        return len(self.box)


@dataclass(frozen=True)
class Explanation:
    """The causes of M true objects and B boxes.

    Attributes:
        columns: what was explained.
        pairs: its P pairs of box and object.
        of_pair: (P,) int8, what each pair would come to if there were no other.
        scores: (B,) the score of the class that a box is named.
    """

    columns: Columns
    pairs: Pairs
    of_pair: Causes
    scores: npt.NDArray[np.floating]

    @cached_property
    def sought(self) -> Bools:
        """(P,) bool, pairs with an object that is looked for."""
        sought: Bools = self.columns.sought[self.pairs.true]
        return sought

    @cached_property
    def of_object(self) -> Causes:
        """(M,) int8, the cause of each true object."""
        causes = _lowest(self.of_pair, self.pairs.true, len(self.columns.truth))
        causes[~self.columns.sought] = Cause.IGNORED
        return causes

    @cached_property
    def of_box(self) -> Causes:
        """(B,) int8, the cause of each box."""
        sought, size = self.sought, len(self.columns.boxes)
        causes = _lowest(self.of_pair[sought], self.pairs.box[sought], size)
        unfit = causes > Cause.WRONG_NAME
        causes[(causes == Cause.RIGHT) & ~self._leads] = Cause.DUPLICATE
        causes[causes == UNRELATED] = Cause.BACKGROUND
        causes[unfit & self._nearer_to_ignored] = Cause.IGNORED
        causes[self.columns.empty] = Cause.EMPTY
        return causes

    @cached_property
    def _leads(self) -> Bools:
        """(B,) bool, boxes that are the right one with the highest score, then IoU, of some object."""
        right = np.flatnonzero((self.of_pair == Cause.RIGHT) & self.sought)
        leads = np.zeros(len(self.columns.boxes), np.bool_)
        leads[self.pairs.box[best_of_objects(self, right)]] = True
        return leads

    @cached_property
    def _nearer_to_ignored(self) -> Bools:
        """(B,) bool, boxes that overlap most with ignored truth, and have to do with it."""
        pairs, size = self.pairs, len(self.columns.boxes)
        related = ~self.sought & (self.of_pair != UNRELATED)
        dropped, kept = (_highest(pairs.iou[some], pairs.box[some], size) for some in (related, self.sought))
        nearer: Bools = dropped > kept
        return nearer


def explain(columns: Columns, rules: Rules) -> Explanation:
    """Find the cause of every true object and of every box.

    A box is named by its best foreground class (the first of equals).

    Args:
        columns: of F frames.
        rules: where causes end.
    """
    pairs, (names, scores) = Pairs.of(columns), columns.scores.top()
    named = names[pairs.box] == columns.truth.classes[pairs.true]
    fits = pairs.iou > np.float32(rules.fit)
    mostly, covered = pairs.of_box > rules.most, pairs.of_object > rules.most
    part, near = mostly & ~covered, pairs.iou >= np.float32(rules.touch)
    swallowed = covered & near
    merged = swallowed & ~mostly
    several = np.bincount(pairs.box[swallowed], minlength=len(columns.boxes))[pairs.box] > 1
    rows = {
        Cause.RIGHT: fits & named,
        Cause.WRONG_NAME: fits,
        Cause.PART: part & named,
        Cause.MERGED_OBJECTS: merged & several,
        Cause.MERGED_BACKGROUND: merged,
        Cause.MISPLACED: near & ~part & named,
        Cause.WRONG_BOTH: near | part,
    }
    of_pair = np.full(len(pairs), UNRELATED, np.int8)
    for cause, applies in reversed(rows.items()):
        of_pair[applies] = cause
    return Explanation(columns, pairs, of_pair, scores)


def best_of_objects(explanation: Explanation, some: Ints) -> Ints:
    """Of some pairs one for each object in them: highest score, then IoU, then the first box.

    Args:
        explanation: of the pairs.
        some: (N,) positions of pairs, ascending.
    """
    pairs = explanation.pairs
    true, score = pairs.true[some], explanation.scores[pairs.box[some]]
    order = some[np.lexsort((some, -pairs.iou[some], -score, true))]
    chosen: Ints = order[np.diff(pairs.true[order], prepend=-1) != 0]
    return chosen


def _fields(pairs: Pairs) -> tuple[npt.NDArray[Any], ...]:
    return pairs.box, pairs.true, pairs.iou, pairs.of_box, pairs.of_object


def _shared(first: Floats, rows: Ints, second: Floats, others: Ints, offset: int) -> Doubles:
    """(P,) area that pairs of boxes share, in the pixel convention ``offset``."""
    one, two = first[rows].astype(np.float64).T, second[others].astype(np.float64).T
    sides = np.minimum(one[2:], two[2:]) - np.maximum(one[:2], two[:2]) + offset
    area: Doubles = np.maximum(sides, 0).prod(axis=0)
    return area


def _lowest(causes: Causes, of: Ints, size: int) -> Causes:
    """(size,) lowest cause of the pairs of each thing, ``UNRELATED`` without any."""
    lowest = np.full(size, UNRELATED, np.int8)
    np.minimum.at(lowest, of, causes)
    return lowest


def _highest(iou: Floats, of: Ints, size: int) -> Floats:
    """(size,) highest IoU of the pairs of each thing, -1 without any."""
    highest = np.full(size, -1, np.float32)
    np.maximum.at(highest, of, iou)
    return highest
