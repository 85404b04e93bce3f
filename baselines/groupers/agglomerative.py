"""Groups merged bottom-up while all their members are alike.

Aydemir et al., "Self-supervised object-centric learning for videos" (SOLV), NeurIPS 2023, section 3.3: slots
are merged by complete linkage of cosine distances up to a threshold. Here the slots are clusters of k-means,
or every patch starts as a group of its own.
"""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Le

from ovvol_bench.arrays import Floats, Ints
from ovvol_bench.registry.annotations import Rounds, Slots

from .linking import unit
from .patches import Patches, PatchGrouper, Source, Span, clustered

FEWEST = 3  # merging that leaves fewer clusters is undone, as published


class Agglomerative(PatchGrouper):
    """Merge groups by complete linkage of cosine distances.

    Args:
        num_slots: clusters to start from; from ``patches`` the most that are left, as beyond the threshold
            the closest are merged until there are so few.
        threshold: groups are merged while no two members are further apart (cosine distance).
        start: merge ``clusters`` of k-means by their means, left alone if fewer than three would remain, or
            single ``patches``.
        restarts: of k-means.
        span: group a ``clip`` at once, or every ``frame`` and link the groups.
        source: features to group by: the encoder's ``tokens`` or its ``keys``.
    """

    def __init__(
        self,
        *,
        num_slots: Slots = 15,
        threshold: Annotated[float, Ge(0), Le(2)] = 0.12,
        start: Literal["clusters", "patches"] = "clusters",
        restarts: Rounds = 3,
        span: Span = "clip",
        source: Source = "tokens",
    ) -> None:
        super().__init__(num_slots, span, source)
        self.threshold, self.start, self.restarts = threshold, start, restarts

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        directions = unit(patches.tokens)
        if self.start == "patches":
            return merged(directions, self.threshold, self.num_slots).reshape(patches.shape)
        labels = clustered(directions, self.num_slots, self.restarts, rng)
        clusters = np.unique(labels, return_inverse=True)[1]  # an empty cluster has no number
        members = clusters == np.arange(clusters.max() + 1)[:, None]
        means = members.astype(np.float32) @ patches.tokens / members.sum(axis=1, keepdims=True)
        group_of = merged(unit(means), self.threshold, self.num_slots)
        kept = group_of if group_of.max() + 1 >= FEWEST else np.arange(len(means))
        return kept[clusters].reshape(patches.shape)


def merged(directions: Floats, threshold: float, most: int) -> Ints:
    """Merge by complete linkage.

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
