"""Orders of detections by score, and what to do with equal ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints, offsets_of
from ovvol_bench.metrics.scores import ClassScores, Scores

Ties = Literal["earlier", "reference", "group", "later"]
"""Equal scores.

``earlier``: those first that stand first in the list of video, frame and segment, which a stable sort
gives, as in pycocotools and its like; predictions are brought into that order, so that the result depends
on no machine or shard. ``later``: the other way round. ``reference``: as numpy's unstable
``argsort()[::-1]`` leaves them on this processor. ``group``: they are one step of the ranking.
"""


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
    """Order of all detections of a class over all frames.

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


Area = Callable[[npt.ArrayLike, npt.ArrayLike, float], float]
"""Average precision of a ranking from (n,) true and (n,) false positives down to each step of it, and the
number of objects: ``precision_area`` or ``eleven_point_area``."""


def precision_area(found: npt.ArrayLike, wrong: npt.ArrayLike, positives: float) -> float:
    """Area under the precision-recall curve, at all recall points (VOC 2010); see ``precision_curve``.

    >>> precision_area([1, 1, 2], [0, 1, 1], 2)
    0.8333333333333333
    """
    return curve_area(*precision_curve(found, wrong, positives))


def eleven_point_area(found: npt.ArrayLike, wrong: npt.ArrayLike, positives: float) -> float:
    """Mean of the interpolated precision at recall 0, .1 to 1 (VOC 2007, ``use_07_metric``).

    >>> round(eleven_point_area([1, 1, 2], [0, 1, 1], 2), 6)
    0.848485
    """
    recall, precision = precision_curve(found, wrong, positives)
    # The sum of eleventh parts in the order of the devkit's loop, over its own not quite round recalls.
    places = np.searchsorted(recall, np.arange(0.0, 1.1, 0.1))
    return float(sum(value / 11 for value in np.append(precision, 0.0)[places].tolist()))


def precision_curve(
    found: npt.ArrayLike, wrong: npt.ArrayLike, positives: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The steps of the interpolated precision-recall curve.

    Precision is replaced by the best precision at any higher recall.

    Args:
        found: (n,) true positives up to each step of the ranking.
        wrong: (n,) false positives up to each step, fractions allowed.
        positives: objects to be found, above 0.

    Returns:
        (m,) ascending recall, the last 1; (m,) precision from the recall before, or 0, up to each of
        them: 0 at recall that isn't reached.

    >>> precision_curve([1, 1, 2], [0, 1, 1], 4)[0]
    array([0.25, 0.5 , 1.  ])
    """
    hits, misses = np.asarray(found, np.float64), np.asarray(wrong, np.float64)
    # Between true positives precision only falls, so that these steps alone shape the curve.
    gains = np.flatnonzero(np.diff(hits, prepend=0) > 0)
    hits, misses = hits[gains], misses[gains]
    # 2^-52 as the reference has it: a ranking that starts with ignored detections is 0 / 0 there.
    precision = hits / (misses + hits + np.spacing(1))
    recall = np.concatenate([[0], hits / positives, [1]])
    envelope = np.maximum.accumulate(np.concatenate([[0], precision, [0]])[::-1])[::-1]
    step = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return recall[step], envelope[step]


def curve_area(recall: npt.NDArray[np.float64], precision: npt.NDArray[np.float64]) -> float:
    """Area under a curve of ``precision_curve``."""
    return float(np.sum(np.diff(recall, prepend=0) * precision))
