"""The graph of all patches that spectral clustering is about, computed plainly."""

import numpy as np

from ovvol_bench.naming.consensus import agreement


def adjacency(slot_maps):
    """(P, P) share of seeds in which two patches are in one slot, of (R, ...) slot maps."""
    return agreement(slot_maps.reshape(len(slot_maps), -1).T)


def laplacian_eigenvalues(affinity):
    """(P,) eigenvalues of 1 - D^-1/2 A D^-1/2, ascending."""
    scale = 1 / np.sqrt(affinity.sum(axis=1))
    return np.linalg.eigvalsh(np.eye(len(affinity)) - affinity * np.outer(scale, scale))
