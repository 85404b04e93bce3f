"""Ranks instead of sorts: where detections stand among the scores that can find something.

Average precision depends only on how many detections come before each true positive. So the scores
of those detections that meet truth are the levels of a class, and any other score is dropped between
two levels. Nothing is sorted but the levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovvol_bench.arrays import Doubles, Ints, offsets_of
from ovvol_bench.metrics import kernels
from ovvol_bench.metrics.ranking import Area
from ovvol_bench.metrics.scores import BoxScores, Scores


@dataclass(frozen=True)
class Steps:
    """The bins of every class: a bin for each level and one for each gap beside levels.

    Attributes:
        levels: of the classes 0 to C: (L,) distinct scores, ascending.
    """

    levels: tuple[Scores, ...]

    @classmethod
    def of(cls, class_ids: Ints, scores: Scores, classes: int) -> Steps:
        """The steps whose levels are given scores.

        Args:
            class_ids: (N,) class of each score, in [0, C].
            scores: (N,).
            classes: C.
        """
        order, ends = _by_class(class_ids, classes)
        return cls(tuple(np.unique(part) for part in np.split(scores[order], ends[1:-1])))

    def joined(self, other: Steps) -> Steps:
        """The steps with the levels of both."""
        pairs = zip(self.levels, other.levels, strict=True)
        return Steps(tuple(np.union1d(one, two) for one, two in pairs))

    @cached_property
    def offsets(self) -> Ints:
        """(C + 2,) first bin of each class, and the number of bins K."""
        return offsets_of(np.array([2 * len(each) + 1 for each in self.levels], np.int64))

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def bins(self, class_ids: Ints, scores: Scores) -> Ints:
        """(D,) bin of each of D detections."""
        order, ends = _by_class(class_ids, len(self.levels) - 1)
        found = np.empty(len(scores), np.int64)
        for class_id in np.flatnonzero(np.diff(ends)):
            own = order[ends[class_id] : ends[class_id + 1]]
            found[own] = self.offsets[class_id] + kernels.places(scores[own], self.levels[class_id])
        return found

    def count(self, scores: BoxScores) -> Ints:
        """(K,) detections in each bin; classes without levels, which need none, are left at 0."""
        counts = np.zeros(len(self), np.int64)
        for class_id in (index for index, levels in enumerate(self.levels) if len(levels)):
            values, boxes = scores.rows_of_class(class_id)
            own = slice(self.offsets[class_id], self.offsets[class_id + 1])
            counts[own] = kernels.tally(values, boxes, self.levels[class_id])
        return counts

    def areas(self, hits: Doubles, misses: Doubles, objects: Ints, area: Area) -> Doubles:
        """Average precision of every class with false, and with true positives first among equal scores.

        Args:
            hits: (K,) true positives in each bin; none outside of levels.
            misses: (K,) false positives in each bin, fractions allowed.
            objects: (C + 1,) to be found.
            area: of a ranking.

        Returns:
            (2, C + 1), NaN for a class without objects.
        """
        areas = np.full((2, len(objects)), np.nan)
        for class_id in np.flatnonzero(objects).tolist():
            found, *spans = self.counts_down(class_id, hits, misses)
            for row, upto in enumerate(spans):
                areas[row, class_id] = area(found, upto, float(objects[class_id]))
        return areas

    def counts_down(self, class_id: int, hits: Doubles, misses: Doubles) -> tuple[Doubles, Doubles, Doubles]:
        """Detections of a class down to each of its levels, the highest level first.

        Args:
            class_id: in [0, C].
            hits: as for ``areas``.
            misses: as for ``areas``.

        Returns:
            (L,) true positives; (L,) false positives, those at the level itself included, and left out.
        """
        own = slice(self.offsets[class_id], self.offsets[class_id + 1])
        wrong = np.cumsum(misses[own][::-1])
        return np.cumsum(hits[own][::-1][1::2]), wrong[1::2], wrong[:-1:2]


def _by_class(class_ids: Ints, classes: int) -> tuple[Ints, Ints]:
    """(D,) order by class, and (C + 2,) where each class begins there."""
    order = np.argsort(class_ids.astype(np.min_scalar_type(classes)), kind="stable")
    return order, offsets_of(np.bincount(class_ids, minlength=classes + 1))
