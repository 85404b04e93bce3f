"""Errors: how many objects and boxes have which cause, and what mending each cause would gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.average_precision import class_precision
from ovvol_bench.metrics.causes import (
    OF_BOXES,
    OF_OBJECTS,
    OF_PAIRS,
    Cause,
    Causes,
    Explanation,
    Rules,
    explain,
)
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import NAN, corloc, detection_rate
from ovvol_bench.metrics.mending import MENDED, mended
from ovvol_bench.metrics.naming import named, naming_accuracy

OF_SOUGHT = (*OF_PAIRS, Cause.MISSED)


def error_causes(
    columns: Columns, rules: Rules, gains: bool = True, class_names: Sequence[str] = ()
) -> dict[str, MetricValue]:
    """The share of objects and of boxes that are right, and why the others are not.

    Args:
        columns: of F frames.
        rules: where one cause ends and the next begins.
        gains: whether to compute what mending each cause would gain.
        class_names: in the order of class ids, from 1, for the notes.

    Returns:
        ``right_objects``: share of the sought objects that are localized and named right; notes
        ``causes`` (objects by cause), ``tracks`` (see ``track_causes``), ``per_class`` (class id to its
        causes and ``name``) and ``gains`` (see ``cause_gains``).
        ``right_boxes``: share of the boxes that are neither ignored nor empty; note ``causes``. Both have
        the ``rules`` in their notes; NaN without objects, without boxes.
    """
    found = explain(columns, rules)
    objects, boxes = _counts(found.of_object, OF_OBJECTS), _counts(found.of_box, OF_BOXES)
    notes = {
        "causes": objects,
        "tracks": track_causes(found),
        "per_class": _per_class(found, class_names),
        **({"gains": cause_gains(found, rules.fit)} if gains else {}),
        "rules": asdict(rules),
    }
    return {
        "right_objects": _right(objects, notes),
        "right_boxes": _right(boxes, {"causes": boxes, "rules": asdict(rules)}),
    }


def track_causes(found: Explanation) -> dict[str, Any]:
    """Causes of whole tracks, over the frames in which they are sought.

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
    """What each metric would gain if a cause were mended, one at a time.

    Returns:
        ``now``: the metrics as they are; then for every cause of ``MENDED`` the difference, above 0
        where mending helps.
    """
    now = _numbers(found.columns, iou_threshold)
    gains = {"now": now}
    for cause in MENDED:
        there = (found.of_box == cause).any() or (found.of_object == cause).any()
        then = _numbers(mended(found, cause), iou_threshold) if there else now
        gains[cause.label] = {name: then[name] - value for name, value in now.items()}
    return gains


def _numbers(columns: Columns, iou_threshold: float) -> dict[str, float]:
    return {
        "corloc_any": corloc(columns, "any", iou_threshold).value,
        "corloc_top1": corloc(columns, "top1", iou_threshold).value,
        "detrate": detection_rate(columns, iou_threshold).value,
        "ap": class_precision(columns, iou_threshold)[0].mean,
        "naming_accuracy": naming_accuracy(columns, iou_threshold).value,
    }


def _counts(causes: Causes | Ints, of: tuple[Cause, ...]) -> dict[str, int]:
    counts = np.bincount(causes, minlength=len(Cause)).tolist()
    return {cause.label: counts[cause] for cause in of}


def _table(of: Ints, causes: Causes, size: int) -> Ints:
    """(size, causes of sought objects) how often each thing has each cause."""
    width = len(OF_SOUGHT)
    return np.bincount(of * width + causes, minlength=size * width).reshape(size, width)


def _per_class(found: Explanation, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Sought objects by class and cause; causes that a class doesn't have are left out."""
    sought, truth = found.columns.sought, found.columns.truth
    size = found.columns.scores.classes + 1
    table = _table(truth.classes[sought], found.of_object[sought], size)
    return {
        str(row): {
            **named(class_names, row),
            **{cause.label: int(table[row, cause]) for cause in OF_SOUGHT if table[row, cause]},
        }
        for row in np.flatnonzero(table.any(axis=1)).tolist()
    }


def _right(causes: Mapping[str, int], notes: Mapping[str, Any]) -> MetricValue:
    """The share of what is right, of what is neither ignored nor empty."""
    count = sum(number for name, number in causes.items() if name not in ("ignored", "empty"))
    return MetricValue(causes["right"] / count if count else NAN, count, notes)
