"""Errors: why objects and boxes are wrong, one cause for each, and what mending each cause would gain.

The rules and their order are in docs/metrics.md, "Errors"; here they are words on columns of pairs. Gains are
after the oracles of TIDE (Bolya et al., ECCV 2020), for boxes that are scored for all classes as well.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import IntEnum
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Floats, Ints, all_pairs
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.base import ColumnMetric, MetricValue
from ovvol_bench.metrics.boxes import box_areas, paired_iou
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.corloc import corloc
from ovvol_bench.metrics.detrate import detection_rate
from ovvol_bench.metrics.naming import named, naming_accuracy
from ovvol_bench.metrics.scores import Scores
from ovvol_bench.metrics.vid_ap import class_precision
from ovvol_bench.registry import FromDataset

Causes = npt.NDArray[np.int8]


class Errors(ColumnMetric):
    """``right_objects`` and ``right_boxes``: the shares that are right, with the causes of the rest.

    Args:
        touch: from this IoU on a box has to do with an object; below ``iou_threshold``.
        most: a share above this is most of a box or of an object.
        gains: whether to compute what mending each cause would gain.
        class_names: in the order of class ids, from 1, for the notes.
        base: settings of `ColumnMetric`.
    """

    needs = frozenset({"classes"})

    def __init__(
        self,
        *,
        touch: float = 0.1,
        most: float = 0.5,
        gains: bool = True,
        class_names: Annotated[tuple[str, ...], FromDataset("class_names")] = (),
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.rules = Rules(self.iou_threshold, touch, most)
        self.gains = gains
        self.class_names = tuple(class_names)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        values = error_causes(columns, self.rules, self.gains, self.class_names)
        return {self._named(name): value for name, value in values.items()}


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
        """Name in results."""
        return self.name.lower()


UNRELATED = Cause.MISSED
"""Cause of a pair whose box and object have nothing to do with each other."""

OF_PAIRS = tuple(cause for cause in Cause if cause < UNRELATED)
OF_SOUGHT = (*OF_PAIRS, Cause.MISSED)
OF_OBJECTS = (*OF_SOUGHT, Cause.IGNORED)
OF_BOXES = (*OF_PAIRS, Cause.DUPLICATE, Cause.BACKGROUND, Cause.IGNORED, Cause.EMPTY)
MENDED = (*OF_PAIRS[1:], Cause.DUPLICATE, Cause.BACKGROUND, Cause.EMPTY, Cause.MISSED)
"""Causes that can be mended, in the order of results."""

_AT_ONCE = 1 << 20
"""Pairs that are looked at together, about."""


@dataclass(frozen=True)
class Rules:
    """Bounds between the causes.

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


def error_causes(
    columns: Columns, rules: Rules, gains: bool = True, class_names: Sequence[str] = ()
) -> dict[str, MetricValue]:
    """Return the share of objects and of boxes that are right, and why the others are not.

    Args:
        columns: of F frames.
        rules: where one cause ends and the next begins.
        gains: whether to compute what mending each cause would gain.
        class_names: in the order of class ids, from 1, for the notes.

    Returns:
        ``right_objects``: share of the sought objects that are localized and named right; notes
        ``causes`` (objects by cause), ``tracks`` (see `track_causes`), ``per_class`` (class id to its
        causes and ``name``) and ``gains`` (see `cause_gains`).
        ``right_boxes``: share of the boxes that are neither ignored nor empty; note ``causes``. Both have
        the ``rules`` in their notes; NaN without objects, without boxes.
    """
    found, sought, limits = explain(columns, rules), columns.sought, {"rules": asdict(rules)}
    by_class = _table(columns.truth.classes[sought], found.of_object[sought], columns.scores.classes + 1)
    notes: dict[str, Any] = {
        "tracks": track_causes(found),
        "per_class": {
            str(row): {
                **named(class_names, row),
                **{cause.label: int(by_class[row, cause]) for cause in OF_SOUGHT if by_class[row, cause]},
            }
            for row in np.flatnonzero(by_class.any(axis=1)).tolist()
        },
        **({"gains": cause_gains(found, rules.fit)} if gains else {}),
    }
    values = {}
    for name, causes, of, more in (
        ("right_objects", found.of_object, OF_OBJECTS, notes),
        ("right_boxes", found.of_box, OF_BOXES, {}),
    ):
        counts = _counts(causes, of)
        total = sum(number for label, number in counts.items() if label not in ("ignored", "empty"))
        share = counts["right"] / total if total else math.nan
        values[name] = MetricValue(share, total, {"causes": counts, **more, **limits})
    return values


def track_causes(found: Explanation) -> dict[str, Any]:
    """Return the causes of whole tracks, over the frames in which they are sought.

    Returns:
        ``most``: tracks by the cause that most of their frames have (of equals the one that comes
        first); ``best``: by the first cause that any of their frames has; ``unknown``: sought objects
        that are in no known track.
    """
    table, sought = found.columns.truth.table, found.columns.sought
    keys = table.track_keys if table is not None else np.full(len(sought), -1)
    known = sought & (keys >= 0)
    _, track = np.unique(keys[known], return_inverse=True)
    frames = _table(track, found.of_object[known], int(track.max(initial=-1)) + 1)
    return {
        "most": _counts(frames.argmax(axis=1), OF_SOUGHT),
        "best": _counts((frames > 0).argmax(axis=1), OF_SOUGHT),
        "unknown": int((sought & ~known).sum()),
    }


def cause_gains(found: Explanation, iou_threshold: float) -> dict[str, dict[str, float]]:
    """Return what each metric would gain if a cause were mended, one at a time.

    Returns:
        ``now``: the metrics as they are; then for every cause of ``MENDED`` the difference, above 0
        where mending helps.
    """

    def numbers(columns: Columns) -> dict[str, float]:
        return {
            "corloc_any": corloc(columns, "any", iou_threshold).value,
            "corloc_top1": corloc(columns, "top1", iou_threshold).value,
            "detrate": detection_rate(columns, iou_threshold).value,
            "ap": class_precision(columns, iou_threshold)[0].mean,
            "naming_accuracy": naming_accuracy(columns, iou_threshold).value,
        }

    now = numbers(found.columns)
    gains = {"now": now}
    for cause in MENDED:
        there = (found.of_box == cause).any() or (found.of_object == cause).any()
        then = numbers(mended(found, cause)) if there else now
        gains[cause.label] = {name: then[name] - value for name, value in now.items()}
    return gains


def _counts(causes: Causes | Ints, of: tuple[Cause, ...]) -> dict[str, int]:
    counts = np.bincount(causes, minlength=len(Cause)).tolist()
    return {cause.label: counts[cause] for cause in of}


def _table(of: Ints, causes: Causes, size: int) -> Ints:
    """(size, causes of sought objects) how often each thing has each cause."""
    width = len(OF_SOUGHT)
    return np.bincount(of * width + causes, minlength=size * width).reshape(size, width)


# --- causes ---------------------------------------------------------------------------------------


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
        """Pair the boxes of columns, some frames at a time; overlap as for CorLoc, DetRate and naming."""
        ends = np.cumsum(columns.box_counts * columns.truth.counts)
        cuts = np.searchsorted(ends, np.arange(0, ends[-1], _AT_ONCE)) if len(ends) else ends
        frames = pairwise(np.unique([0, *cuts, len(columns)]).tolist())
        parts = [_pairs_of_frames(columns, slice(*span)) for span in [(0, 0), *frames]]
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True)))

    def __len__(self) -> int:
        return len(self.box)


def _pairs_of_frames(columns: Columns, frames: slice) -> tuple[Ints, Ints, Floats, Doubles, Doubles]:
    truth, offset = columns.truth, columns.protocol.overlap_offset
    box, true = all_pairs(columns.box_counts[frames], truth.counts[frames])
    box += columns.box_counts[: frames.start].sum()
    true += truth.counts[: frames.start].sum()
    iou = paired_iou(truth.boxes, true, columns.boxes, box, offset)
    real = (iou > 0) & ~columns.empty[box] & (columns.sought | truth.ignored)[true]
    box, true, iou = box[real], true[real], iou[real]
    one, other = columns.boxes[box].astype(np.float64), truth.boxes[true].astype(np.float64)
    sides = np.minimum(one[:, 2:], other[:, 2:]) - np.maximum(one[:, :2], other[:, :2]) + offset
    shared = np.maximum(sides, 0).prod(axis=1)
    return box, true, iou, shared / box_areas(one, offset), shared / box_areas(other, offset)


@dataclass(frozen=True)
class Explanation:
    """The causes of M true objects and B boxes.

    Attributes:
        columns: the explained ones.
        pairs: its P pairs of box and object.
        of_pair: (P,) int8, the cause of each pair if there were no other.
        scores: (B,) the score of the class that a box is named.
    """

    columns: Columns
    pairs: Pairs
    of_pair: Causes
    scores: Scores

    @cached_property
    def sought(self) -> Bools:
        """(P,) bool, pairs with an object that is looked for."""
        sought: Bools = self.columns.sought[self.pairs.true]
        return sought

    @cached_property
    def of_object(self) -> Causes:
        """(M,) int8, the cause of each true object."""
        causes = np.full(len(self.columns.truth), UNRELATED, np.int8)
        np.minimum.at(causes, self.pairs.true, self.of_pair)
        causes[~self.columns.sought] = Cause.IGNORED
        return causes

    @cached_property
    def of_box(self) -> Causes:
        """(B,) int8, the cause of each box."""
        pairs, sought, size = self.pairs, self.sought, len(self.columns.boxes)
        causes = np.full(size, UNRELATED, np.int8)
        np.minimum.at(causes, pairs.box[sought], self.of_pair[sought])
        unfit = causes > Cause.WRONG_NAME
        # Boxes that are the right one with the highest score, then IoU, of some object.
        leads = np.zeros(size, np.bool_)
        leads[pairs.box[self.best_of_objects((self.of_pair == Cause.RIGHT) & sought)]] = True
        causes[(causes == Cause.RIGHT) & ~leads] = Cause.DUPLICATE
        causes[causes == UNRELATED] = Cause.BACKGROUND
        # Boxes that overlap most with ignored truth, and have to do with it.
        dropped, kept = np.full((2, size), -1, np.float32)
        for highest, some in ((dropped, ~sought & (self.of_pair != UNRELATED)), (kept, sought)):
            np.maximum.at(highest, pairs.box[some], pairs.iou[some])
        causes[unfit & (dropped > kept)] = Cause.IGNORED
        causes[self.columns.empty] = Cause.EMPTY
        return causes

    def best_of_objects(self, some: Bools) -> Ints:
        """Choose a pair for each object of some, (P,) bool: highest score, then IoU, then the first box."""
        pairs, rows = self.pairs, np.flatnonzero(some)
        true, score = pairs.true[rows], self.scores[pairs.box[rows]]
        order = rows[np.lexsort((rows, -pairs.iou[rows], -score, true))]
        chosen: Ints = order[np.diff(pairs.true[order], prepend=-1) != 0]
        return chosen


def explain(columns: Columns, rules: Rules) -> Explanation:
    """Find the cause of every true object and of every box.

    A box is named by its best foreground class (the first of equals).

    Args:
        columns: of F frames.
        rules: where causes end.
    """
    pairs, (names, scores) = Pairs.of(columns), columns.scores.top
    right_name = names[pairs.box] == columns.truth.classes[pairs.true]
    fits = pairs.iou > np.float32(rules.fit)
    mostly, covered = pairs.of_box > rules.most, pairs.of_object > rules.most
    part, near = mostly & ~covered, pairs.iou >= np.float32(rules.touch)
    swallowed = covered & near
    merged = swallowed & ~mostly
    several = np.bincount(pairs.box[swallowed], minlength=len(columns.boxes))[pairs.box] > 1
    rows = {
        Cause.RIGHT: fits & right_name,
        Cause.WRONG_NAME: fits,
        Cause.PART: part & right_name,
        Cause.MERGED_OBJECTS: merged & several,
        Cause.MERGED_BACKGROUND: merged,
        Cause.MISPLACED: near & ~part & right_name,
        Cause.WRONG_BOTH: near | part,
    }
    of_pair = np.full(len(pairs), UNRELATED, np.int8)
    for cause, applies in reversed(rows.items()):
        of_pair[applies] = cause
    return Explanation(columns, pairs, of_pair, scores)


# --- gains ----------------------------------------------------------------------------------------


def mended(found: Explanation, cause: Cause) -> Columns:
    """Return the columns with the boxes of one cause mended, all else as it was.

    The meaning of mending each cause is in docs/metrics.md, "Gains".

    Args:
        found: the explanation of the columns.
        cause: one of ``MENDED``.
    """
    columns, truth, pairs = found.columns, found.columns.truth, found.pairs
    if cause == Cause.MISSED:
        # A box on every missed object, under its name and surer than any other.
        true = np.flatnonzero(found.of_object == Cause.MISSED)
        rows, boxes = np.arange(len(columns.boxes)), truth.boxes[true]
        scores = columns.scores.certain(truth.classes[true])
    else:
        # Every object with the cause, and every one that a box has it with, gets the best such box. Objects
        # that are right already need none; a box that is no object's best is taken away.
        gone = found.of_box == cause
        meant = gone[pairs.box] | (found.of_object == cause)[pairs.true]
        open_objects = found.sought & (found.of_object != Cause.RIGHT)[pairs.true]
        best = found.best_of_objects((found.of_pair == cause) & meant & open_objects)
        source, true = pairs.box[best], pairs.true[best]
        rows, scores = np.flatnonzero(~gone), columns.scores.keep(source)
        if cause in (Cause.WRONG_NAME, Cause.WRONG_BOTH):
            scores = scores.renamed(truth.classes[true])
        boxes = columns.boxes[source] if cause == Cause.WRONG_NAME else truth.boxes[true]
    # New boxes stand behind the others of their frame.
    frame = np.concatenate([columns.frame[rows], truth.frame[true]])
    order = np.argsort(frame, kind="stable")
    return replace(
        columns,
        box_counts=np.bincount(frame, minlength=len(columns)),
        boxes=np.concatenate([columns.boxes[rows], boxes])[order],
        scores=columns.scores.keep(rows).joined(scores).keep(order),
    )
