"""Names of localized objects: how many are right, which is taken for which, how honest scores are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.metrics.base import ColumnMetric, MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.registry import FromDataset


class NamingAccuracy(ColumnMetric):
    """``naming_accuracy``: share of localized objects with the right name.

    Args:
        held_out: class ids that no part was trained on, reported apart.
        base: settings of `ColumnMetric`.
    """

    averages = True
    needs = frozenset({"classes"})

    def __init__(
        self, *, held_out: Annotated[tuple[int, ...], FromDataset("held_out")] = (), **base: Any
    ) -> None:
        super().__init__(**base)
        self.held_out = tuple(held_out)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        value = naming_accuracy(columns, self.iou_threshold, self.held_out)
        return {self._named("naming_accuracy"): value}


class Confusion(ColumnMetric):
    """``naming_balanced``: naming accuracy over classes of equal weight, with the confusion matrix.

    Args:
        held_out: class ids that no part was trained on, for the notes.
        class_names: in the order of class ids, from 1, for the notes.
        base: settings of `ColumnMetric`.
    """

    needs = frozenset({"classes"})

    def __init__(
        self,
        *,
        held_out: Annotated[tuple[int, ...], FromDataset("held_out")] = (),
        class_names: Annotated[tuple[str, ...], FromDataset("class_names")] = (),
        **base: Any,
    ) -> None:
        super().__init__(**base)
        self.held_out, self.class_names = tuple(held_out), tuple(class_names)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        value = confusion(columns, self.iou_threshold, self.held_out, self.class_names)
        return {self._named("naming_balanced"): value}


class CalibrationError(ColumnMetric):
    """``naming_ece``: expected calibration error of the names' probabilities, with a reliability table.

    Args:
        bins: of confidence, of equal width.
        base: settings of `ColumnMetric`.
    """

    higher_is_better = False
    needs = frozenset({"classes", "probabilities"})

    def __init__(self, *, bins: int = 15, **base: Any) -> None:
        super().__init__(**base)
        if bins < 1:
            raise SettingError(f"bins is {bins}; expected at least 1")
        self.bins = bins

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        return {self._named("naming_ece"): calibration_error(columns, self.iou_threshold, self.bins)}


def naming_accuracy(
    columns: Columns, iou_threshold: float = 0.5, held_out: Sequence[int] = ()
) -> MetricValue:
    """Return the share of localized objects whose best box has the right name.

    An object is localized if a box of its frame has an IoU > ``iou_threshold`` with it. Its name is
    the best foreground class of the box that overlaps most (the first of equals): the background
    column is left out, as a segment that was kept claims to be an object.

    Args:
        columns: of F frames.
        iou_threshold: strictly above it counts.
        held_out: class ids that no part was trained on, reported apart.

    Returns:
        The share and the number of localized objects; NaN if there is none. Notes: ``per_class``
        (class id to share and count), and with ``held_out`` the two groups apart.
    """
    hit = columns.hits(iou_threshold)
    classes = columns.truth.classes[hit]
    right = columns.scores.top[0][columns.best.box[hit]] == classes

    def share(some: npt.NDArray[np.bool_]) -> dict[str, Any]:
        return {"value": _mean(right[some]), "count": int(np.count_nonzero(some))}

    notes: dict[str, Any] = {"per_class": {str(each): share(classes == each) for each in np.unique(classes)}}
    if len(held_out):
        novel = np.isin(classes, held_out)
        notes |= {"held_out": share(novel), "seen": share(~novel)}
    return MetricValue(_mean(right), len(right), notes)


def confusion(
    columns: Columns,
    iou_threshold: float = 0.5,
    held_out: Sequence[int] = (),
    class_names: Sequence[str] = (),
) -> MetricValue:
    """Return naming accuracy with every true class weighing the same, and which name is taken for which.

    Objects and their names are those of `naming_accuracy`.

    Args:
        columns: of F frames.
        iou_threshold: strictly above it an object is localized.
        held_out: class ids that no part was trained on, for the notes.
        class_names: in the order of class ids, from 1, for the notes.

    Returns:
        Mean over classes with localized objects of the share named right, and the number of these
        classes; NaN if there is none. Notes: ``rows`` (true class id to named class id to objects, those
        that aren't 0), ``sought`` (true class id to objects, localized or not), ``class_names`` of
        all these ids, and ``held_out`` as given.
    """
    hit, classes, size = columns.hits(iou_threshold), columns.truth.classes, columns.scores.classes + 1
    names = columns.scores.top[0][columns.best.box[hit]]
    # Of many classes almost all pairs never occur: a table of all would be most of the memory.
    cells, counts = np.unique(classes[hit] * size + names, return_counts=True)
    true, taken = np.divmod(cells, size)
    localized = np.bincount(true, counts, minlength=size)
    right = np.bincount(true[true == taken], counts[true == taken], minlength=size)
    sought = np.bincount(classes[columns.sought], minlength=size)
    shares = right[localized > 0] / localized[localized > 0]
    rows: dict[str, dict[str, int]] = {}
    for row, name, count in zip(true.tolist(), taken.tolist(), counts.tolist(), strict=True):
        rows.setdefault(str(row), {})[str(name)] = count
    ids = np.union1d(taken, np.flatnonzero(sought)).tolist()
    notes = {
        "rows": rows,
        "sought": {str(row): int(sought[row]) for row in np.flatnonzero(sought).tolist()},
        "class_names": {str(each): class_names[each - 1] for each in ids if 1 <= each <= len(class_names)},
        "held_out": list(held_out),
    }
    return MetricValue(_mean(shares), len(shares), notes)


def calibration_error(columns: Columns, iou_threshold: float = 0.5, bins: int = 15) -> MetricValue:
    """Return the expected calibration error of names (Guo et al., arXiv 1706.04599, equation 3).

    Objects and their names are those of `naming_accuracy`; a name's confidence is its
    probability. Over bins (i / bins, (i + 1) / bins] of confidence, the first with 0, the error is
    the mean of |share of right names - mean confidence|, weighted by the objects in each bin.

    Args:
        columns: of F frames.
        iou_threshold: strictly above it an object is localized.
        bins: of equal width, at least 1.

    Returns:
        The error in [0, 1] and the number of localized objects; NaN if there is none. Notes: the mean
        ``confidence`` and ``accuracy``, and ``reliability``, one row for each bin that isn't empty.

    Raises:
        DataError: if a confidence is no probability.
    """
    hit = columns.hits(iou_threshold)
    box, (names, score) = columns.best.box[hit], columns.scores.top
    confidence, right = score[box].astype(np.float64), names[box] == columns.truth.classes[hit]
    wrong = confidence[(confidence < 0) | (confidence > 1 + 1e-6)]
    if len(wrong):
        raise DataError(f"score {wrong[0]:g} is no probability; calibration needs scores between 0 and 1")
    number = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    table = [
        {
            "above": each / bins,
            "to": (each + 1) / bins,
            "count": int(np.count_nonzero(number == each)),
            "confidence": _mean(confidence[number == each]),
            "accuracy": _mean(right[number == each]),
        }
        for each in np.unique(number).tolist()
    ]
    gaps = sum(row["count"] * abs(row["accuracy"] - row["confidence"]) for row in table)
    notes = {"confidence": _mean(confidence), "accuracy": _mean(right), "reliability": table}
    return MetricValue(gaps / len(right) if len(right) else math.nan, len(right), notes)


def named(class_names: Sequence[str], class_id: int) -> dict[str, str]:
    """Return the ``name`` of a class for its notes, where it is known.

    Args:
        class_names: in the order of class ids, from 1; may be empty.
        class_id: from 0.
    """
    return {"name": class_names[class_id - 1]} if 1 <= class_id <= len(class_names) else {}


def _mean(values: npt.NDArray[Any]) -> float:
    return float(values.mean()) if len(values) else math.nan
