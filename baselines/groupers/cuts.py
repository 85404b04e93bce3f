"""Normalised cuts of a graph of patches (Shi and Malik, "Normalized cuts and image segmentation", 2000)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Floats, Ints

from .patches import component_of, cosines

WEAK = 1e-5
"""Weight of an edge between patches that are not alike: keeps the graph in one piece."""
_SMALL = 64  # nodes up to which all eigenvectors are computed


def spectrum(weights: npt.NDArray[np.floating], count: int) -> tuple[Doubles, Doubles]:
    """The smallest solutions of (D - W) v = λ D v, D the diagonal of W's row sums.

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
    """(N, N) weights of TokenCut: 1 between patches whose cosine is above ``threshold``, else `WEAK`."""
    graph: Floats = np.where(cosines(tokens) > threshold, 1, WEAK).astype(np.float32)
    return graph


def fiedler_vector(tokens: Floats, threshold: float) -> Doubles:
    """(N,) second smallest eigenvector of `similarity_graph`: near-constant on each of the two sides."""
    vectors: Doubles = spectrum(similarity_graph(tokens, threshold), 2)[1]
    return vectors[:, -1]


def salient_side(vector: Doubles) -> tuple[Bools, int]:
    """Of the sides of a vector's mean, the one with its largest absolute value, and where that is."""
    seed = int(np.abs(vector).argmax())
    above = vector > vector.mean()
    side: Bools = above == above[seed]
    return side, seed


def opposite_side(vector: Doubles, side: Bools) -> tuple[Bools, int]:
    """The other side, and where it has its largest absolute value."""
    return ~side, int(np.where(side, -1, np.abs(vector)).argmax())


def connected(side: Bools, seed: int, shape: tuple[int, ...]) -> Bools:
    """(S, h, w): the part of a side (N,) that hangs together with the seed."""
    return component_of(side.reshape(shape), seed)


def as_labels(mask: Bools) -> Ints:
    """1 in the mask, 0 elsewhere."""
    return mask.astype(np.int64)
