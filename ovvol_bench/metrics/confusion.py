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
    cells = classes[hit] * size + named[columns.best.box[hit]]
    counts = np.bincount(cells, minlength=size * size).reshape(size, size)
    localized, sought = counts.sum(axis=1), np.bincount(classes[columns.sought], minlength=size)
    some = localized > 0
    shares = counts.diagonal()[some] / localized[some]
    ids = np.flatnonzero((counts.sum(axis=0) > 0) | (sought > 0)).tolist()
    notes = {
        "rows": {
            str(row): {str(name): int(counts[row, name]) for name in np.flatnonzero(counts[row]).tolist()}
            for row in np.flatnonzero(some).tolist()
        },
        "sought": {str(row): int(sought[row]) for row in np.flatnonzero(sought).tolist()},
        "class_names": {str(each): class_names[each - 1] for each in ids if 1 <= each <= len(class_names)},
        "held_out": list(held_out),
    }
    return MetricValue(float(shares.mean()) if len(shares) else NAN, len(shares), notes)
