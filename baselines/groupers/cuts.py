"""Normalised cuts of a graph of patches (Shi and Malik, "Normalized cuts and image segmentation", 2000)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Floats

from .patches import cosines

WEAK = 1e-5  # weight of an edge between patches that are not alike: keeps the graph in one piece
_SMALL = 64  # nodes up to which all eigenvectors are computed


def spectrum(weights: npt.NDArray[np.floating], count: int) -> tuple[Doubles, Doubles]:
    """Find the smallest solutions of (D - W) v = λ D v, D the diagonal of W's row sums.

    Args:
        weights: (N, N) symmetric, non-negative, no row of zeros.
        count: how many; at most N are given.

    Returns:
        λ (count,) ascending in [0, 2], and v (N, count), scaled to v' D v = 1; signs are arbitrary.
    """
    from scipy.linalg import eigh
    from scipy.sparse.linalg import eigsh

    size = len(weights)
    scale = 1 / np.sqrt(weights.sum(axis=1, dtype=np.float64))
    walk = weights * np.outer(scale, scale)
    count = min(count, size)
    if size <= max(_SMALL, 4 * count):
        values, vectors = eigh(walk, subset_by_index=[size - count, size - 1])
    else:
        start = np.random.default_rng(0).standard_normal(size)  # fixed: the same cut every time
        values, vectors = eigsh(walk, count, which="LA", v0=start)
    order = np.argsort(-values)
    return 1 - values[order], scale[:, None] * vectors[:, order]


def similarity_graph(tokens: Floats, threshold: float) -> Floats:
    """Return TokenCut's (N, N) weights: 1 between patches of a cosine above ``threshold``, else `WEAK`."""
    graph: Floats = np.where(cosines(tokens) > threshold, 1, WEAK).astype(np.float32)
    return graph


def fiedler_vector(tokens: Floats, threshold: float) -> Doubles:
    """Return the (N,) second smallest eigenvector of `similarity_graph`, near-constant on each side."""
    vectors: Doubles = spectrum(similarity_graph(tokens, threshold), 2)[1]
    return vectors[:, -1]


def salient_side(vector: Doubles) -> tuple[Bools, int]:
    """Choose the side of a vector's mean that has its largest absolute value; return it and where that is."""
    seed = int(np.abs(vector).argmax())
    above = vector > vector.mean()
    side: Bools = above == above[seed]
    return side, seed
