"""What localized objects are named as."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovvol_bench.benchmark import MetricValue
from ovvol_bench.metrics.columns import Columns
from ovvol_bench.metrics.localization import NAN, truth_hits


def confusion(
    columns: Columns,
    iou_threshold: float = 0.5,
    held_out: Sequence[int] = (),
    class_names: Sequence[str] = (),
) -> MetricValue:
    """Naming accuracy with every true class weighing the same, and which name is taken for which.

    Objects and their names are those of ``naming.naming_accuracy``.

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
    hit, classes, size = truth_hits(columns, iou_threshold), columns.truth.classes, columns.scores.classes + 1
    named, _ = columns.scores.top()
    # Of many classes almost all pairs never occur: a table of all would be most of the memory.
    cells, counts = np.unique(classes[hit] * size + named[columns.best.box[hit]], return_counts=True)
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
    return MetricValue(float(shares.mean()) if len(shares) else NAN, len(shares), notes)
