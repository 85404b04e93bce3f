"""Normalised cuts: eigenvectors, and the groupers made of them."""

import numpy as np
import pytest
import scipy.linalg
import torch
from patch_scenes import build, draws, same_partition, scene, slots_of
from sklearn.cluster import SpectralClustering

from ovvol_baselines.groupers.cuts import salient_side, similarity_graph, spectrum
from ovvol_baselines.groupers.spectral import number_of_groups
from ovvol_bench import Features, SettingError


def objects(*places, shape=(3, 5, 6)):
    """Labels with a box a place: (rows, columns), the same in all frames."""
    labels = torch.zeros(shape, dtype=torch.int64)
    for number, (rows, columns) in enumerate(places, 1):
        labels[:, rows, columns] = number
    return labels


ONE = objects((slice(1, 3), slice(2, 4)))
TWO = objects((slice(1, 3), slice(1, 3)), (slice(3, 5), slice(4, 6)))


class TestSpectrum:
    @pytest.mark.parametrize("size", [20, 150])  # all eigenvectors, and a few of them
    def test_it_solves_the_generalised_problem(self, size):
        tokens = np.random.default_rng(0).standard_normal((size, 4)).astype(np.float32)
        weights = np.exp(tokens @ tokens.T / 4).astype(np.float64)
        degrees = np.diag(weights.sum(1))
        want, _ = scipy.linalg.eigh(degrees - weights, degrees)
        values, vectors = spectrum(weights, 3)
        assert np.allclose(values, want[:3], atol=1e-8)
        assert np.allclose((degrees - weights) @ vectors, degrees @ vectors * values, atol=1e-6)
        assert np.allclose(vectors.T @ degrees @ vectors, np.eye(3), atol=1e-8)

    def test_more_than_there_are(self):
        values, vectors = spectrum(np.ones((2, 2)), 5)
        assert values == pytest.approx([0, 1], abs=1e-12)
        assert vectors.shape == (2, 2)

    def test_the_graph_has_two_weights(self):
        tokens = np.array([[1, 0], [1, 1], [0, 2]], np.float32)
        weights = similarity_graph(tokens, 0.5)
        assert np.allclose(weights, [[1, 1, 1e-5], [1, 1, 1], [1e-5, 1, 1]])

    def test_the_side_of_the_largest_value_is_salient(self):
        side, seed = salient_side(np.array([0.1, -3.0, 0.2, 1.0]))
        assert (side.tolist(), seed) == ([False, True, False, False], 1)


class TestTokenCut:
    def test_an_object_is_cut_from_its_background(self):
        slots = slots_of(build("tokencut"), scene(ONE))
        assert torch.equal(slots, ONE)

    def test_only_the_part_at_the_seed_is_kept(self):
        labels = ONE.clone()
        labels[:, 4, 0] = 1  # alike and apart
        slots = slots_of(build("tokencut", span="frame"), scene(labels, noise=0))
        kept = slots.sum((1, 2)).unique().tolist()
        assert kept in ([1], [4])

    def test_frames_are_cut_alone(self):
        labels = ONE.clone()
        labels[1] = labels[1].roll(2, dims=1)
        slots = slots_of(build("tokencut", span="frame", source="tokens"), scene(labels))
        assert torch.equal(slots, labels)

    def test_keys_are_what_is_cut(self):
        given = scene(ONE)
        keys = Features(torch.randn(given.grid.shape, generator=draws(0)[0]), given.maps)
        assert torch.equal(slots_of(build("tokencut"), keys), ONE)
        assert build("tokencut").needs == {"keys"}
        assert build("tokencut", source="tokens").needs == frozenset()


class TestMaskCut:
    def test_objects_are_found_one_after_another(self):
        slots = slots_of(build("maskcut"), scene(TWO, noise=0.02))
        assert same_partition(slots, TWO)
        assert (slots[TWO == 0] == 0).all()

    def test_a_side_with_the_corners_is_turned_round(self):
        labels = 1 - objects((slice(0, 5), slice(0, 6)))
        labels[:, 1:4, 1:5] = 1  # the object is larger than its frame of background
        slots = slots_of(build("maskcut", objects=1), scene(labels, noise=0.01))
        assert torch.equal(slots, labels)

    def test_specks_are_left_out(self):
        labels = objects((slice(5, 6), slice(5, 6)), shape=(1, 11, 11))  # 1 of 121 patches
        assert not slots_of(build("maskcut"), scene(labels, noise=0)).any()

    def test_rounds_bound_the_objects(self):
        assert build("maskcut", objects=2).max_objects == 2
        with pytest.raises(SettingError, match="'objects' can't be 0"):
            build("maskcut", objects=0)


class TestSpectral:
    @pytest.mark.parametrize("seed", [0, 1, 2])
    def test_it_groups_as_scikit_learn_does(self, seed):
        given = scene(TWO, noise=0.08, seed=seed)
        tokens = torch.nn.functional.normalize(given.grid[0].flatten(0, 2), dim=-1)
        affinity = (tokens @ tokens.T).clamp(min=0).numpy() + 1e-5
        reference = SpectralClustering(3, affinity="precomputed", random_state=0).fit(affinity).labels_
        slots = slots_of(build("spectral", num_slots=3), given)
        assert same_partition(slots, torch.from_numpy(reference).view(3, 5, 6))

    def test_the_number_of_groups_is_chosen(self):
        slots = slots_of(build("spectral", num_slots=8, fewest=2), scene(TWO))
        assert same_partition(slots, TWO)

    @pytest.mark.parametrize(
        ("values", "fewest", "expected"),
        [([0, 0.1, 0.2, 0.9], 1, 3), ([0, 0.5, 0.6, 0.7], 2, 2), ([0.0], 1, 1)],
    )
    def test_the_largest_gap_decides(self, values, fewest, expected):
        assert number_of_groups(np.array(values), fewest, 3) == expected

    def test_fewer_patches_than_groups(self):
        masks = build("spectral", num_slots=9).group(Features(torch.randn(1, 1, 2, 2, 3)), draws(0)).masks
        assert masks.shape == (1, 9, 1, 2, 2)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_slots": 0}, "'num_slots' can't be 0"),
            ({"num_slots": 3, "fewest": 4}, "fewest=4; expected 1 to num_slots=3"),
            ({"threshold": 1.0}, "'threshold' can't be 1.0.* Expected 0 <= float < 1"),
        ],
    )
    def test_wrong_numbers_are_refused(self, options, message):
        with pytest.raises(SettingError, match=message):
            build("spectral", **options)
