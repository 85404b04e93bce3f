"""What if one cause of error didn't exist? Columns in which its boxes are mended, all else as it was.

After the oracles of TIDE (Bolya et al., ECCV 2020), for boxes that are scored for all classes as well. What
mending means for each cause is in docs/metrics.md, "Gains".
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ovvol_bench.arrays import Bools, Floats, Ints
from ovvol_bench.metrics.causes import OF_PAIRS, Cause, Explanation, best_of_objects
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.scores import BoxScores

RENAMED = (Cause.WRONG_NAME, Cause.WRONG_BOTH)
MENDED = (*OF_PAIRS[1:], Cause.DUPLICATE, Cause.BACKGROUND, Cause.EMPTY, Cause.MISSED)
"""Causes that can be mended, in the order of results."""


@dataclass(frozen=True)
class Repair:
    """Boxes to take away and boxes to put in.

    Attributes:
        gone: (B,) bool.
        source: (N,) int64 in [0, B), the box that each new one comes from.
        true: (N,) int64, the true object that each new one is for.
    """

    gone: Bools
    source: Ints
    true: Ints


def mended(explanation: Explanation, cause: Cause) -> Columns:
    """The columns without one cause of error.

    Args:
        explanation: of the columns.
        cause: one of ``MENDED``.
    """
    if cause == Cause.MISSED:
        return _all_found(explanation)
    repair = _repair(explanation, cause)
    columns, truth = explanation.columns, explanation.columns.truth
    scores = columns.scores.keep(repair.source)
    if cause in RENAMED:
        scores = scores.renamed(truth.classes[repair.true])
    boxes = columns.boxes[repair.source] if cause == Cause.WRONG_NAME else truth.boxes[repair.true]
    return _with_boxes(columns, ~repair.gone, repair.true, boxes, scores)


def _repair(explanation: Explanation, cause: Cause) -> Repair:
    """Every object with the cause, and every one that a box has it with, gets the best such box.

    Objects that are right already need none; a box that is no object's best is taken away.
    """
    pairs, gone = explanation.pairs, explanation.of_box == cause
    meant = gone[pairs.box] | (explanation.of_object == cause)[pairs.true]
    open_objects = explanation.sought & (explanation.of_object != Cause.RIGHT)[pairs.true]
    some = np.flatnonzero((explanation.of_pair == cause) & meant & open_objects)
    best = best_of_objects(explanation, some)
    return Repair(gone, pairs.box[best], pairs.true[best])


def _all_found(explanation: Explanation) -> Columns:
    """Columns with a box on every missed object, under its name and surer than any other."""
    columns = explanation.columns
    missed = np.flatnonzero(explanation.of_object == Cause.MISSED)
    certain = columns.scores.certain(columns.truth.classes[missed])
    everything = np.ones(len(columns.boxes), np.bool_)
    return _with_boxes(columns, everything, missed, columns.truth.boxes[missed], certain)


def _with_boxes(columns: Columns, kept: Bools, true: Ints, boxes: Floats, scores: BoxScores) -> Columns:
    """Some of the boxes, and new ones for true objects behind the others of their frame."""
    rows = np.flatnonzero(kept)
    frame = np.concatenate([columns.frame[rows], columns.truth.frame[true]])
    order = np.argsort(frame, kind="stable")
    return replace(
        columns,
        box_counts=np.bincount(frame, minlength=len(columns)),
        boxes=np.concatenate([columns.boxes[rows], boxes])[order],
        scores=columns.scores.keep(rows).joined(scores).keep(order),
    )
