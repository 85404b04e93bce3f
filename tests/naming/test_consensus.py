"""Several seeds' groupings into one."""

from __future__ import annotations

import numpy as np
import pytest
from patch_graph import adjacency, laplacian_eigenvalues
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.manifold import spectral_embedding
from sklearn.metrics import adjusted_rand_score

from ovvol_bench.errors import SettingError
from ovvol_bench.naming.consensus import consensus


def noisy_seeds(
    rng: np.random.Generator, groups: int, noise: float, seeds: int = 3
) -> tuple[np.ndarray, np.ndarray]:
    """Truth (2, 6, 8), and slot maps that renumber it and change a share of the patches."""
    truth = np.sort(np.concatenate([np.arange(groups), rng.integers(0, groups, 96 - groups)])).reshape(
        2, 6, 8
    )
    maps = [
        np.where(rng.random(truth.shape) < noise, rng.integers(0, 9, truth.shape), rng.permutation(9)[truth])
        for _ in range(seeds)
    ]
    return truth, np.stack(maps)


def test_adjacency_is_the_share_of_seeds_that_agree() -> None:
    slot_maps = np.array([[[[0, 0, 1]]], [[[5, 2, 2]]]])
    assert adjacency(slot_maps).tolist() == [[1, 0.5, 0], [0.5, 1, 0.5], [0, 0.5, 1]]


def test_separate_groups_give_as_many_zero_eigenvalues() -> None:
    values = laplacian_eigenvalues(adjacency(np.array([[[[0, 0, 1, 1, 2]]]])))
    np.testing.assert_allclose(values, [0, 0, 0, 1, 1], atol=1e-12)


@pytest.mark.parametrize("groups", [3, 5, 7])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_number_of_groups_is_found_by_the_eigengap(groups, noise) -> None:
    truth, slot_maps = noisy_seeds(np.random.default_rng(groups), groups, noise)
    labels = consensus(slot_maps, 2, 9, seed=0)
    assert labels.max() + 1 == groups
    assert adjusted_rand_score(truth.ravel(), labels.ravel()) > 0.9


def test_the_number_of_groups_can_be_that_of_the_lowest_loss() -> None:
    """The loss of scikit-learn's k-means in as many eigenvectors as groups, on the full graph."""
    _, slot_maps = noisy_seeds(np.random.default_rng(5), groups=5, noise=0.1)
    affinity = adjacency(slot_maps)
    losses = []
    for groups in range(2, 10):
        embedding = spectral_embedding(affinity, n_components=groups, drop_first=False, random_state=0)
        losses.append(KMeans(groups, n_init=30, random_state=0).fit(embedding).inertia_)
    assert consensus(slot_maps, 2, 9, seed=0, choose="loss").max() + 1 == 2 + np.argmin(losses)
    assert 2 + np.argmin(losses) != consensus(slot_maps, 2, 9, seed=0).max() + 1


def test_equal_losses_give_the_fewest_groups() -> None:
    slot_maps = np.repeat(np.arange(5), 6).reshape(1, 1, 5, 6).repeat(2, axis=0)
    assert consensus(slot_maps, 2, 5, seed=0, choose="loss").max() + 1 == 5


@pytest.mark.parametrize("seed", range(4))
def test_distinct_patterns_stand_for_all_their_patches(seed) -> None:
    """The same groups as spectral clustering of the full graph of patches."""
    _, slot_maps = noisy_seeds(np.random.default_rng(seed), groups=4, noise=0.08)
    full = SpectralClustering(4, affinity="precomputed", n_init=30, random_state=0).fit(adjacency(slot_maps))
    assert adjusted_rand_score(full.labels_, consensus(slot_maps, 4, 4, seed=0).ravel()) == 1.0


def test_groups_are_numbered_as_they_appear_and_repeat() -> None:
    _, slot_maps = noisy_seeds(np.random.default_rng(1), groups=5, noise=0.3)
    labels = consensus(slot_maps, 3, 8, seed=7)
    np.testing.assert_array_equal(labels, consensus(slot_maps, 3, 8, seed=7))
    _, first = np.unique(labels, return_index=True)
    assert (np.diff(first) > 0).all()
    assert labels.shape == slot_maps.shape[1:]


def test_numbers_of_slots_do_not_matter() -> None:
    _, slot_maps = noisy_seeds(np.random.default_rng(2), groups=4, noise=0.1)
    renumbered = slot_maps.copy()
    renumbered[1] = np.random.default_rng(0).permutation(20)[slot_maps[1]]
    found = consensus(slot_maps, 4, 4, 0), consensus(renumbered, 4, 4, 0)
    assert adjusted_rand_score(*(labels.ravel() for labels in found)) == 1.0


def test_there_are_never_more_groups_than_patterns() -> None:
    slot_maps = np.array([[[[0, 0, 1, 1]]], [[[1, 1, 0, 0]]]])
    assert consensus(slot_maps, 3, 10, seed=0).tolist() == [[[0, 0, 1, 1]]]
    assert consensus(np.zeros((2, 1, 2, 2), dtype=int), 3, 10, seed=0).tolist() == [[[0, 0], [0, 0]]]


@pytest.mark.parametrize(("low", "high"), [(0, 3), (5, 4)])
def test_an_impossible_range_is_refused(low, high) -> None:
    with pytest.raises(SettingError, match=f"expected 1 <= LOW <= HIGH, got {low}..{high}"):
        consensus(np.zeros((1, 1, 2, 2), dtype=int), low, high, seed=0)
