"""Precision-recall curves of every class: the course behind an average precision."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np

from ovvol_bench.arrays import Doubles
from ovvol_bench.metrics.base import ColumnMetric, MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.matching import find_candidates, queue_up
from ovvol_bench.metrics.naming import named
from ovvol_bench.metrics.ranks import Ranking, curve_area, precision_curve
from ovvol_bench.metrics.vid_ap import Sought, outcomes_of
from ovvol_bench.registry import FromDataset

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which a stored curve says its precision."""


class PrecisionCurves(ColumnMetric):
    """``pr_curves``: mean average precision once more, with the curves of its classes.

    Args:
        class_names: in the order of class ids, from 1, for the notes.
        base: settings of `ColumnMetric`.
    """

    needs = frozenset({"classes"})

    def __init__(
        self, *, class_names: Annotated[tuple[str, ...], FromDataset("class_names")] = (), **base: Any
    ) -> None:
        super().__init__(**base)
        self.class_names = tuple(class_names)

    def score(self, columns: Columns) -> Mapping[str, MetricValue]:
        return {self._named("pr_curves"): precision_curves(columns, self.iou_threshold, self.class_names)}


def precision_curves(
    columns: Columns, iou_threshold: float = 0.5, class_names: Sequence[str] = ()
) -> MetricValue:
    """Return the mean area under the curves of the classes, and the curves.

    Args:
        columns: of F frames.
        iou_threshold: in (0, 1].
        class_names: in the order of class ids, from 1, for the notes.

    Returns:
        The mean area over classes that have objects, equal to VID AP of all objects; NaN if none has. Note
        ``per_class``: of each class its ``ap``, its ``name`` if known, and the interpolated
        ``precision`` at recall 0, .01, .02 and so on as far as the curve reaches.
    """
    curves = class_curves(columns, iou_threshold)
    areas = {each: float(curve_area(*curve)) for each, curve in curves.items()}
    notes = {
        str(each): {**named(class_names, each), "ap": areas[each], "precision": _thinned(*curve)}
        for each, curve in curves.items()
    }
    mean = float(np.mean(list(areas.values()))) if areas else math.nan
    return MetricValue(mean, len(areas), {"per_class": notes})


def class_curves(columns: Columns, iou_threshold: float = 0.5) -> dict[int, tuple[Doubles, Doubles]]:
    """Compute the interpolated precision-recall curve of every class that has objects, as VID AP has it.

    The area under one, sum of (rise of recall · precision), is the class's average precision.

    Args:
        columns: of F frames.
        iou_threshold: in (0, 1].

    Returns:
        Class id to recall and precision, see ``ranks.precision_curve``.
    """
    candidates = find_candidates(columns)
    queue = queue_up(columns, candidates, iou_threshold, "earlier")
    ranking, sought = Ranking.of(columns, candidates, queue), Sought.of(columns, None)
    ((found, wrong),) = outcomes_of(columns, candidates, queue, sought, [iou_threshold])
    totals = ranking.totals(found, wrong, sought.elsewhere)
    curves = {}
    for class_id in np.flatnonzero(sought.objects).tolist():
        hits, (misses, _) = ranking.counts_down(class_id, *totals)
        if class_id in ranking.orders:
            hits, misses = ranking.counts_in_order(class_id, found, wrong, sought.elsewhere, misses)
        curves[class_id] = precision_curve(hits, misses, float(sought.objects[class_id]))
    return curves


def _thinned(recall: Doubles, precision: Doubles) -> list[float]:
    """Return the precision at each of ``RECALLS``, without those at the end that the curve doesn't reach."""
    # Recall is a fraction of few objects, 0.29 of them perhaps 0.29000000000000004.
    at = np.searchsorted(recall, RECALLS - 1e-9)
    values = precision[np.minimum(at, len(precision) - 1)]
    reached = np.flatnonzero(values > 0)
    return [round(float(value), 4) for value in values[: reached[-1] + 1 if len(reached) else 0]]
