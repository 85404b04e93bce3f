"""Groups merged bottom-up while all their members are alike.

Aydemir et al., "Self-supervised object-centric learning for videos" (SOLV), NeurIPS 2023, section 3.3: slots
are merged by complete linkage of cosine distances up to a threshold. Here the slots are clusters of k-means,
or every patch starts as a group of its own.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from ovvol_bench import SettingError
from ovvol_bench.arrays import Floats, Ints

from .linking import unit
from .patches import Patches, PatchGrouper, Source, Span, check_counts

Start = Literal["clusters", "patches"]
FEWEST = 3
"""Merging that leaves fewer clusters is undone, as published."""


class Agglomerative(PatchGrouper):
    """Complete linkage of cosine distances.

    Args:
        num_slots: clusters to start from, or from ``patches`` the most that are left: beyond the threshold
            the closest are merged until there are so few.
        threshold: groups are merged while no two members are further apart (cosine distance).
        start: ``clusters``, merged by their means and left alone if fewer than three would remain, or
            ``patches``.
        restarts: of k-means.
        span: see `PatchGrouper`.
        source: see `PatchGrouper`.

    Raises:
        SettingError: if a number is out of range.
    """

    def __init__(
        self, num_slots: int, threshold: float, start: Start, restarts: int, span: Span, source: Source
    ) -> None:
        check_counts("agglomerative", num_slots=num_slots, restarts=restarts)
        if not 0 <= threshold <= 2:
            raise SettingError(f"agglomerative: threshold={threshold:g}; expected 0 to 2.")
        super().__init__(num_slots, span, source)
        self.threshold, self.start, self.restarts = threshold, start, restarts

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        """See `PatchGrouper.segment`."""
        directions = unit(patches.tokens)
        if self.start == "patches":
            return merged(directions, self.threshold, self.num_slots).reshape(patches.shape)
        clusters = self._clusters(directions, rng)
        members = clusters == np.arange(clusters.max() + 1)[:, None]
        means = members.astype(np.float32) @ patches.tokens / members.sum(axis=1, keepdims=True)
        group_of = merged(unit(means), self.threshold, self.num_slots)
        kept = group_of if group_of.max() + 1 >= FEWEST else np.arange(len(means))
        return kept[clusters].reshape(patches.shape)

    def _clusters(self, directions: Floats, rng: np.random.Generator) -> Ints:
        from sklearn.cluster import KMeans

        count = min(self.num_slots, len(np.unique(directions, axis=0)))
        model = KMeans(count, n_init=self.restarts, random_state=int(rng.integers(2**32)))
        labels: Ints = model.fit(directions).labels_.astype(np.int64)
        return np.unique(labels, return_inverse=True)[1]


def merged(directions: Floats, threshold: float, most: int) -> Ints:
    """Complete linkage.

    Args:
        directions: (N, D) of length 1.
        threshold: largest cosine distance within a group.
        most: groups left; if the threshold leaves more, it is passed.

    Returns:
        (N,) int64 group in [0, most).
    """
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(directions) == 1:
        return np.zeros(1, np.int64)
    distances = np.clip(1 - directions.astype(np.float64) @ directions.T, 0, 2)
    np.fill_diagonal(distances, 0)
    tree = linkage(squareform(distances, checks=False), "complete")
    groups = fcluster(tree, threshold, "distance")
    if groups.max() > most:
        groups = fcluster(tree, most, "maxclust")
    labels: Ints = groups.astype(np.int64) - 1
    return labels
