"""Case spectral: slot masks of several seeds into one grouping."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from golden_vectors import load_case, load_tensors
from patch_graph import adjacency, laplacian_eigenvalues

from ovvol_bench.naming.consensus import consensus
from ovvol_bench.naming.localize import winning_slots


def _first_occurrence(labels: np.ndarray) -> np.ndarray:
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].reshape(labels.shape)


def _slot_maps(masks: np.ndarray, grid: list[int]) -> np.ndarray:
    """(R, T, h, w) winning slots of (R, T, K, P) soft masks."""
    by_slot = torch.from_numpy(masks).float().movedim(2, 1).unflatten(-1, grid)
    return torch.stack([winning_slots(one, frames=one.shape[1]) for one in by_slot]).numpy()


def test_golden_spectral(golden: Path) -> None:
    description = load_case(golden, "spectral")
    tensors = {name: value.numpy() for name, value in load_tensors(golden, description).items()}
    tolerance = description["tolerance"]
    for case in description["cases"]:
        name, groups = case["name"], case["n_clusters"]
        slot_maps = _slot_maps(tensors[f"{name}.mask"], case["grid"])
        winners = slot_maps.reshape(*slot_maps.shape[:2], -1)
        np.testing.assert_array_equal(winners, tensors.get(f"{name}.argmax", winners))

        affinity = adjacency(slot_maps)
        np.testing.assert_allclose(
            affinity,
            tensors.get(f"{name}.adjacency", affinity),
            rtol=0,
            atol=tolerance.get("adjacency_abs", 1e-6),
        )
        values = np.unique(affinity.round(6)).tolist()
        assert values == case.get("adjacency_values", values)
        found = laplacian_eigenvalues(affinity)
        eigenvalues = tensors.get(f"{name}.eigenvalues_normalised_laplacian", found)
        np.testing.assert_allclose(
            found[: len(eigenvalues)], eigenvalues, rtol=0, atol=tolerance.get("eigenvalues_abs", 1e-5)
        )
        partition = tensors.get(f"{name}.partition_first_occurrence")
        if partition is not None and case.get("partition_same_in_12_runs", False):
            labels = consensus(slot_maps, groups, groups, seed=0)
            np.testing.assert_array_equal(_first_occurrence(labels).reshape(partition.shape), partition)
            sizes = sorted(np.bincount(labels.ravel()).tolist())
            assert sizes == case.get("cluster_sizes", sizes)
