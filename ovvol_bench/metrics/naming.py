"""Whether objects that were localized got the right name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ovvol_bench.arrays import Bools, Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import NAN, truth_hits


def naming_accuracy(
    columns: Columns, iou_threshold: float = 0.5, held_out: Sequence[int] = ()
) -> MetricValue:
    """Share of localized objects whose best box has the right name.

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
    hit = truth_hits(columns, iou_threshold)
    classes = columns.truth.classes[hit]
    named, _ = columns.scores.top()
    right = named[columns.best.box[hit]] == classes
    notes: dict[str, Any] = {"per_class": _per_class(right, classes)}
    if len(held_out):
        novel = np.isin(classes, held_out)
        notes |= {"held_out": _share(right[novel]), "seen": _share(right[~novel])}
    share = _share(right)
    return MetricValue(share["value"], share["count"], notes)


def named(class_names: Sequence[str], class_id: int) -> dict[str, str]:
    """The ``name`` of a class for its notes, where it is known.

    Args:
        class_names: in the order of class ids, from 1; may be empty.
        class_id: from 0.
    """
    return {"name": class_names[class_id - 1]} if 1 <= class_id <= len(class_names) else {}


def _per_class(right: Bools, classes: Ints) -> dict[str, dict[str, Any]]:
    return {str(each): _share(right[classes == each]) for each in np.unique(classes)}


def _share(right: Bools) -> dict[str, Any]:
    return {"value": float(right.mean()) if len(right) else NAN, "count": len(right)}
