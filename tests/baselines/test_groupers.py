import numpy as np
import pytest
import torch
from patch_scenes import build, draws
from scipy.spatial import cKDTree
from sklearn.cluster import KMeans as ReferenceKMeans

from ovvol_bench import ClipInfo, Features, FrameTruth, SettingError, pipeline


def features(batch=2, seed=0):
    grid = torch.randn(batch, 3, 4, 5, 6, generator=torch.Generator().manual_seed(seed))
    return Features(grid)


class TestGrid:
    def test_cells_are_equal_and_stand_still(self):
        masks = build("grid", rows=2, columns=2).group(Features(torch.zeros(1, 2, 4, 6, 1)), draws(0)).masks
        expected = [[0, 0, 0, 1, 1, 1]] * 2 + [[2, 2, 2, 3, 3, 3]] * 2
        assert masks.argmax(1).tolist() == [[expected, expected]]
        assert (masks.sum(1) == 1).all()

    @pytest.mark.parametrize(
        ("height", "rows", "sizes"), [(5, 2, [3, 2]), (4, 3, [1, 2, 1]), (2, 4, [0, 1, 0, 1])]
    )
    def test_patches_that_do_not_divide(self, height, rows, sizes):
        masks = (
            build("grid", rows=rows, columns=1)
            .group(Features(torch.zeros(1, 1, height, 1, 1)), draws(0))
            .masks
        )
        assert sorted(masks.sum((0, 2, 3, 4)).tolist()) == sorted(sizes)

    def test_no_cells_are_refused(self):
        with pytest.raises(SettingError, match="'rows' can't be 0"):
            build("grid", rows=0)


class TestVoronoi:
    def test_patches_go_where_scipys_tree_finds_the_nearest_point(self):
        height, width, seed = 7, 11, 4
        masks = (
            build("voronoi", num_slots=6)
            .group(Features(torch.zeros(1, 3, height, width, 1)), draws(seed))
            .masks
        )
        points = (
            np.array([height, width])
            * torch.rand(6, 2, generator=draws(seed)[0], dtype=torch.float64).numpy()
        )
        middles = np.stack(np.mgrid[:height, :width], axis=-1) + 0.5
        _, nearest = cKDTree(points).query(middles)
        assert len(np.unique(nearest)) > 3
        assert torch.equal(masks[0].argmax(0), torch.from_numpy(nearest).expand(3, -1, -1))
        assert (masks.sum(1) == 1).all()

    def test_every_clip_and_seed_has_cells_of_its_own(self):
        given = Features(torch.zeros(2, 1, 8, 8, 1))
        masks = build("voronoi", num_slots=4).group(given, draws(0, 1)).masks
        assert not torch.equal(masks[0], masks[1])

    def test_no_points_are_refused(self):
        with pytest.raises(SettingError, match="'num_slots' can't be 0"):
            build("voronoi", num_slots=0)


class TestKMeans:
    def test_clouds_far_apart_are_found(self):
        centres = 10 * torch.eye(6)[:3]
        which = torch.arange(60) % 3
        grid = centres[which] + 0.1 * torch.randn(60, 6, generator=torch.Generator().manual_seed(0))
        found = build("kmeans", num_slots=3).group(Features(grid.view(1, 3, 4, 5, 6)), draws(0)).masks
        clusters = found.argmax(1).flatten()
        assert len({(int(a), int(b)) for a, b in zip(which, clusters, strict=True)}) == 3

    @pytest.mark.parametrize("normalize", [True, False])
    def test_it_ends_where_scikit_learn_ends(self, normalize):
        given = features(batch=1)
        tokens = given.grid.flatten(0, 3)
        tokens = torch.nn.functional.normalize(tokens, dim=-1) if normalize else tokens
        pick = torch.randperm(60, generator=draws(5)[0])[:4]
        reference = ReferenceKMeans(
            4, init=tokens[pick].numpy(), n_init=1, max_iter=20, algorithm="lloyd"
        ).fit(tokens)
        ours = build("kmeans", num_slots=4, normalize=normalize, restarts=1).group(given, draws(5)).masks
        assert np.array_equal(ours.argmax(1).flatten(), reference.labels_)

    def test_a_clip_does_not_depend_on_its_batch(self):
        grouper, given = build("kmeans", num_slots=4), features()
        both = grouper.group(given, draws(1, 2)).masks
        alone = grouper.group(Features(given.grid[1:]), draws(2)).masks
        assert torch.equal(both[1:], alone)

    def test_more_restarts_fit_no_worse(self):
        given = features(batch=1)
        tokens = torch.nn.functional.normalize(given.grid.flatten(0, 3), dim=-1)

        def spread(restarts):
            clusters = (
                build("kmeans", num_slots=5, restarts=restarts)
                .group(given, draws(0))
                .masks.argmax(1)
                .flatten()
            )
            parts = [tokens[clusters == k] for k in clusters.unique()]
            return sum(float((part - part.mean(0)).square().sum()) for part in parts)

        assert spread(8) <= spread(1) + 1e-4

    def test_fewer_patches_than_clusters(self):
        masks = build("kmeans", num_slots=9).group(Features(torch.randn(1, 1, 2, 2, 3)), draws(0)).masks
        assert masks.shape == (1, 9, 1, 2, 2)
        assert (masks.sum(1) == 1).all()

    def test_no_clusters_are_refused(self):
        with pytest.raises(SettingError, match="'num_slots' can't be 0"):
            build("kmeans", num_slots=0)


def told(*boxes, size=(8, 10)):
    """A clip of one box a frame and track number: boxes[frame][object]."""
    frames = []
    for corners in boxes:
        count, no = len(corners), np.zeros(len(corners), bool)
        ids = np.ones(count, np.int64), np.arange(count)
        frames.append(
            FrameTruth(np.array(corners, np.float32).reshape(-1, 4), *ids, no, no, np.ones(count, np.float32))
        )
    return ClipInfo("v/0", "v", tuple(range(len(frames))), size, tuple(frames))


class TestOracle:
    features = Features(torch.zeros(1, 2, 4, 5, 1))

    def test_every_object_has_its_slot_in_all_frames(self):
        info = told([[0, 0, 1, 1], [8, 6, 9, 7]], [[2, 0, 3, 1], [8, 6, 9, 7]])
        masks = build("oracle").group(self.features, draws(0), truth=[info]).masks
        assert masks.shape == (1, 64, 2, 4, 5)
        slots = masks[0].argmax(0)
        assert slots.nonzero().tolist() == [[0, 0, 0], [0, 3, 4], [1, 0, 1], [1, 3, 4]]
        assert slots[slots > 0].tolist() == [1, 2, 1, 2]

    def test_frames_of_a_step_count_together(self):
        info = told([[0, 0, 1, 1]], [[0, 0, 1, 1]], [[8, 6, 9, 7]], [[8, 6, 9, 7]])
        slots = build("oracle").group(self.features, draws(0), truth=[info]).masks[0].argmax(0)
        assert slots.nonzero().tolist() == [[0, 0, 0], [1, 3, 4]]

    def test_too_many_objects_lose_the_smallest(self):
        boxes = [[0, 0, 1, 1], [4, 0, 9, 1], [0, 6, 3, 7]]
        slots = build("oracle", num_slots=3).group(self.features, draws(0), truth=[told(boxes, boxes)])
        rows = slots.masks[0].argmax(0)[0].tolist()
        assert rows == [[0, 0, 1, 1, 1], [0] * 5, [0] * 5, [2, 2, 0, 0, 0]]

    def test_one_slot_is_refused(self):
        with pytest.raises(SettingError, match="'num_slots' can't be 1"):
            build("oracle", num_slots=1)


class TestEvery:
    """What holds for all groupers of patches, on noise."""

    NAMES = (
        "agglomerative",
        "found",
        "grid",
        "kmeans",
        "lost",
        "maskcut",
        "spectral",
        "tokencut",
        "voronoi",
        "whole",
    )
    SPANS = ("agglomerative", "found", "lost", "maskcut", "spectral", "tokencut")
    SPANNING = tuple((name, {"span": span}) for name in SPANS for span in ("clip", "frame"))
    CASES = (*((name, {}) for name in NAMES), *SPANNING)

    @staticmethod
    def features(device="cpu"):
        generator = torch.Generator().manual_seed(3)
        grid = torch.randn(2, 3, 4, 5, 8, generator=generator).to(device)
        attention = torch.rand(2, 3, 2, 4, 5, generator=generator).to(device)
        return Features(grid, {"keys": grid + 0.1, "attention": attention})

    @pytest.mark.parametrize(("name", "options"), CASES)
    def test_masks_of_a_clip_are_its_own(self, name, options):
        grouper, given = build(name, **options), self.features()
        before = given.grid.clone()
        masks = pipeline.group(grouper, given, draws(1, 2)).masks
        assert torch.equal(masks, grouper.group(given, draws(1, 2)).masks)
        alone = Features(given.grid[1:], {key: value[1:] for key, value in given.maps.items()})
        assert torch.equal(masks[1:], grouper.group(alone, draws(2)).masks)
        assert torch.equal(given.grid, before)
        assert grouper.max_objects <= masks.shape[1]

    @pytest.mark.parametrize("name", NAMES)
    def test_one_patch_is_enough(self, name):
        grid = torch.randn(1, 1, 1, 1, 4)
        given = Features(grid, {"keys": grid, "attention": torch.rand(1, 1, 2, 1, 1)})
        assert pipeline.group(build(name), given, draws(0)).masks.sum() == 1

    @pytest.mark.parametrize("name", NAMES)
    def test_equal_patches_are_no_trouble(self, name):
        grid = torch.ones(1, 2, 3, 4, 6)
        given = Features(grid, {"keys": grid, "attention": torch.ones(1, 2, 2, 3, 4)})
        pipeline.group(build(name), given, draws(0))

    @pytest.mark.parametrize("name", NAMES)
    def test_features_of_zeros_are_no_trouble(self, name):
        grid = torch.zeros(1, 2, 3, 4, 6)
        given = Features(grid, {"keys": grid, "attention": torch.zeros(1, 2, 2, 3, 4)})
        pipeline.group(build(name), given, draws(0))

    @pytest.mark.parametrize("name", ["tokencut", "maskcut", "found"])
    @pytest.mark.parametrize("threshold", [1.0, -1.5])
    def test_thresholds_are_cosines(self, name, threshold):
        with pytest.raises(
            SettingError,
            match=f"{name}': setting 'threshold' can't be {threshold}.* Expected -1 <= float < 1",
        ):
            build(name, threshold=threshold)

    @pytest.mark.gpu
    @pytest.mark.parametrize("name", NAMES)
    def test_devices_agree(self, name):
        here = build(name).group(self.features(), draws(1, 2)).masks
        there = build(name).group(self.features("cuda"), draws(1, 2)).masks
        assert there.is_cuda
        assert (here == there.cpu()).float().mean() > 0.99
