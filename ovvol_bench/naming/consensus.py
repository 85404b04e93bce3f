"""Several groupings of one clip into one, by spectral clustering of patches that keep together.

Two patches are as alike as the share of seeds that put them into the same slot. The smallest
eigenvectors of the normalised Laplacian of that graph embed the patches, k-means groups them
(Shi and Malik 2000; von Luxburg 2007, algorithm "normalized spectral clustering").

Patches with the same slots in all seeds are interchangeable: their rows in the graph are equal, and
so are their embeddings. Hence the graph of distinct patterns, weighted by how many patches have
them, gives the same eigenvectors and the same clusters; a clip of 1,568 patches has only a few
hundred of them.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.errors import SettingError

ChooseGroups = Literal["eigengap", "loss"]
_STARTS = 30


def consensus(
    slot_maps: npt.NDArray[np.integer[Any]],
    low: int,
    high: int,
    seed: int,
    choose: ChooseGroups = "eigengap",
) -> Ints:
    """Find the grouping that agrees best with several.

    There are never more groups than distinct patterns.

    Args:
        slot_maps: (R, T, h, w) winning slot of every patch under R seeds.
        low: fewest groups, at least 1.
        high: most groups, at least ``low``.
        seed: of the k-means starts; the same seed gives the same groups.
        choose: how the number of groups in [low, high] is found. ``eigengap``: the largest step from the last
            eigenvalue in use to the next (von Luxburg 2007, section 8.3). ``loss``: the lowest loss of
            k-means, k groups in k eigenvectors, as the published GPU variant of arXiv 2309.09858 does.

    Returns:
        (T, h, w) int64 groups, numbered in the order of their first patch.

    Raises:
        SettingError: if not 1 <= low <= high.
    """
    if not 1 <= low <= high:
        raise SettingError(f"consensus: expected 1 <= LOW <= HIGH, got {low}..{high}.")
    # U distinct rows of labels, the row of every patch, and how many patches have each.
    rows = slot_maps.reshape(len(slot_maps), -1).T
    patterns, of_patch, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    high = min(high, len(counts))
    values, vectors = _spectrum(patterns, counts, high + 1)
    low = min(low, high)
    if choose == "eigengap":
        gaps = np.diff(values)[low - 1 : high]
        low = high = low + int(gaps.argmax())  # the smallest of equals
    found = [_weighted_kmeans(vectors[:, :groups], counts, groups, seed) for groups in range(low, high + 1)]
    # Losses that differ by rounding only are equal: then the fewest groups do.
    clusters, _ = min(found, key=lambda each: round(each[1], 9))
    _, first, numbers = np.unique(clusters[of_patch.reshape(-1)], return_index=True, return_inverse=True)
    order: Ints = np.argsort(np.argsort(first))[numbers]  # by first patch
    return order.reshape(slot_maps.shape[1:])


def agreement(labels: npt.NDArray[np.integer[Any]]) -> Doubles:
    """Return the share of columns in which two rows of labels (U, R) agree, (U, U) in [0, 1]."""
    seeds = labels.shape[1]
    one_hot = (labels[:, :, None] == np.arange(labels.max() + 1)).reshape(len(labels), -1).astype(np.float32)
    share: Doubles = (one_hot @ one_hot.T).astype(np.float64) / seeds
    return share


def _spectrum(patterns: npt.NDArray[np.integer[Any]], counts: Ints, count: int) -> tuple[Doubles, Doubles]:
    """Return the smallest eigenvalues of the full graph's Laplacian, and embeddings of the patterns.

    Returns:
        (count,) eigenvalues, those beyond the patterns filled up with 1, which is what they are; and
        (U, min(count, U)) values that eigenvectors of the random walk take at each pattern.
    """
    from scipy.linalg import eigh

    affinity = agreement(patterns)
    degrees = affinity @ counts
    scale = np.sqrt(counts / degrees)
    walk = affinity * np.outer(scale, scale)
    size = len(counts)
    values, vectors = eigh(walk, subset_by_index=[max(0, size - count), size - 1])
    smallest = 1 - values[::-1]
    padded = np.concatenate([smallest, np.ones(max(0, count - size))])
    return padded, vectors[:, ::-1] / np.sqrt(counts * degrees)[:, None]


def _weighted_kmeans(points: Doubles, counts: Ints, groups: int, seed: int) -> tuple[Ints, float]:
    """Return the cluster of every point, (U,), and the loss; a point counts as often as patches have it."""
    from sklearn.cluster import KMeans

    model = KMeans(groups, n_init=_STARTS, random_state=seed % 2**32)
    model.fit(points, sample_weight=counts)
    return model.labels_.astype(np.int64), float(model.inertia_)
