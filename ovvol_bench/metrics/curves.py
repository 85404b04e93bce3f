"""Precision-recall curves of every class: what lies behind an average precision."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovvol_bench.arrays import Doubles
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.average_precision import Ranking, Sought, outcomes_of
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import NAN
from ovvol_bench.metrics.matching import find_candidates, queue_up
from ovvol_bench.metrics.naming import named
from ovvol_bench.metrics.ranking import curve_area, precision_curve
from ovvol_bench.metrics.steps import Steps

RECALLS = np.linspace(0, 1, 101)
"""Recalls at which a stored curve says its precision."""


def class_curves(columns: Columns, iou_threshold: float = 0.5) -> dict[int, tuple[Doubles, Doubles]]:
    """The interpolated precision-recall curve of every class that has objects, as VID AP has it.

    The area under one, sum of (rise of recall · precision), is the class's average precision.

    Args:
        columns: of F frames.
        iou_threshold: in (0, 1].

    Returns:
        Class id to recall and precision, see ``ranking.precision_curve``.
    """
    candidates = find_candidates(columns)
    queue = queue_up(columns, candidates, iou_threshold, "earlier")
    steps = Steps.of(candidates.class_id[queue], candidates.score[queue], columns.scores.classes)
    sought = Sought.of(columns, None)
    (outcome,) = outcomes_of(columns.protocol, candidates, queue, sought, [iou_threshold])
    counts = Ranking.of(columns, candidates, steps).counts(outcome, sought)
    return {
        class_id: precision_curve(found, wrong, float(sought.objects[class_id]))
        for class_id, (found, wrong) in counts.items()
    }


def precision_curves(
    columns: Columns, iou_threshold: float = 0.5, class_names: Sequence[str] = ()
) -> MetricValue:
    """Mean average precision once more, with the curves of its classes.

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
    areas = {each: curve_area(*curve) for each, curve in curves.items()}
    notes = {
        str(each): {
            **named(class_names, each),
            "ap": areas[each],
            "precision": thinned(*curve),
        }
        for each, curve in curves.items()
    }
    return MetricValue(
        float(np.mean(list(areas.values()))) if areas else NAN, len(areas), {"per_class": notes}
    )


def thinned(recall: Doubles, precision: Doubles) -> list[float]:
    """Precision at each of ``RECALLS``, without those at the end that the curve doesn't reach."""
    # Recall is a fraction of few objects, 0.29 of them perhaps 0.29000000000000004.
    at = np.searchsorted(recall, RECALLS - 1e-9)
    values = precision[np.minimum(at, len(precision) - 1)]
    reached = np.flatnonzero(values > 0)
    return [round(float(value), 4) for value in values[: reached[-1] + 1 if len(reached) else 0]]
