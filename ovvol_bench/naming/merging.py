"""Which slots are one object, by what they look like or where they are: mergers that look at no name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Floats, Ints
from ovvol_bench.naming.scores import NORM_EPSILON

Group = tuple[int, ...]


@dataclass(frozen=True)
class Evidence:
    """What is known of the slots of a clip beside the labeler's view of them.

    Attributes:
        features: (K, D) sums of the encoder's features over each slot's patches; None where not known.
        overlap: (K, K) in [0, 1], IoU of the patches that two slots are active on; None where there are no
            soft masks.
    """

    features: Floats | None = None
    overlap: Floats | None = None


NO_EVIDENCE = Evidence()


def merge_alike(features: npt.ArrayLike, threshold: float) -> list[Group]:
    """Unite slots by complete linkage on cosine distance, as SOLV does (Aydemir et al., NeurIPS 2023).

    The two nearest groups are united again and again, until the farthest pair between any two is more than
    the threshold apart.

    Args:
        features: (N, D); a zero row is at distance 1 from every other.
        threshold: largest distance (1 - cosine) within a group.

    Returns:
        Groups of positions, ascending by their lowest member.
    """
    rows = np.asarray(features, dtype=np.float64)
    if len(rows) < 2:
        return [(i,) for i in range(len(rows))]
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    unit = rows / (np.linalg.norm(rows, axis=1, keepdims=True) + NORM_EPSILON**2)
    distances = np.clip(1 - unit @ unit.T, 0, None)
    tree = linkage(squareform(distances, checks=False), method="complete")
    return _groups(fcluster(tree, threshold, criterion="distance"))


def merge_overlapping(overlap: npt.ArrayLike, threshold: float) -> list[Group]:
    """Unite slots that overlap, and whatever overlaps with one of them in turn.

    SSync's transitive merging (arXiv 2606.15527, section 3): an edge between slots whose IoU is above the
    threshold, and every connected component is one object.

    Args:
        overlap: (N, N) IoU in [0, 1], symmetric.
        threshold: IoU above which two slots are one.

    Returns:
        Groups of positions, ascending by their lowest member.
    """
    from scipy.sparse.csgraph import connected_components

    _, labels = connected_components(np.asarray(overlap) > threshold, directed=False)
    return _groups(labels)


def _groups(labels: Ints) -> list[Group]:
    """Positions by label, in the order of the labels' first members."""
    groups: dict[int, list[int]] = {}
    for position, label in enumerate(labels.tolist()):
        groups.setdefault(label, []).append(position)
    return [tuple(members) for members in groups.values()]
