"""Case spectral: slot masks of several seeds into one grouping."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file

from ovvol_bench.naming.consensus import adjacency, consensus, laplacian_eigenvalues
from ovvol_bench.naming.slots import winning_slots


def _first_occurrence(labels: np.ndarray) -> np.ndarray:
    _, first, numbers = np.unique(labels, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[numbers].reshape(labels.shape)


def _slot_maps(masks: np.ndarray, grid: list[int]) -> np.ndarray:
    """(R, T, h, w) winning slots of (R, T, K, P) soft masks."""
    by_slot = torch.from_numpy(masks).float().movedim(2, 1).unflatten(-1, grid)
    return torch.stack([winning_slots(one, frames=one.shape[1]) for one in by_slot]).numpy()


def test_golden_spectral(golden: Path) -> None:
    description = json.loads((golden / "spectral.json").read_text())
    tensors = load_file(golden / description["files"]["tensors"])
    tolerance = description["tolerance"]
    for case in description["cases"]:
        name, groups = case["name"], case["n_clusters"]
        slot_maps = _slot_maps(tensors[f"{name}.mask"], case["grid"])
        expected = tensors[f"{name}.argmax"]
        np.testing.assert_array_equal(slot_maps.reshape(expected.shape), expected)

        affinity = adjacency(slot_maps)
        np.testing.assert_allclose(
            affinity, tensors[f"{name}.adjacency"], rtol=0, atol=tolerance["adjacency_abs"]
        )
        assert np.unique(affinity.round(6)).tolist() == case["adjacency_values"]
        eigenvalues = tensors[f"{name}.eigenvalues_normalised_laplacian"]
        np.testing.assert_allclose(
            laplacian_eigenvalues(affinity)[: len(eigenvalues)],
            eigenvalues,
            rtol=0,
            atol=tolerance["eigenvalues_abs"],
        )
        if case["partition_same_in_12_runs"]:
            labels = consensus(slot_maps, groups, groups, seed=0)
            partition = tensors[f"{name}.partition_first_occurrence"]
            np.testing.assert_array_equal(_first_occurrence(labels).reshape(partition.shape), partition)
            assert sorted(np.bincount(labels.ravel()).tolist()) == case["cluster_sizes"]
