"""Speed of naming one clip and of its steps, with the 30 classes and 189 prompts of ImageNet-VID.

pytest benchmarks/test_naming_speed.py --benchmark-enable
"""

import numpy as np
import pytest
from clip_scenes import CLASSES, GRIDS, REGIONS, masks_of, patches_of, regions_of, text_of
from naming_steps import name_clip

from ovvol_bench.naming.consensus import consensus
from ovvol_bench.naming.localize import gather_evidence, name_pooled, pool_slots, segment_boxes, winning_slots
from ovvol_bench.naming.rule import merge_alike, merge_overlapping, merge_same_name, touching
from ovvol_bench.naming.settings import NamingSettings

GRID, SLOTS, EMBEDDING = GRIDS["paper"], 15, 512
FRAME = (16 * GRID[1], 16 * GRID[2])
DEFAULT = NamingSettings()
OBJECTS = [(0, 1), (3,), (5,), (7, 8)]


@pytest.fixture(scope="module")
def text():
    return text_of(EMBEDDING)


@pytest.fixture(scope="module")
def patches(text):
    return patches_of(GRID, text)


@pytest.fixture(scope="module")
def pooled(patches):
    return pool_slots(regions_of(GRID), REGIONS, patches)


def neighbours():
    """Which regions touch, corners included."""
    rows, columns = np.divmod(np.arange(REGIONS), 3)
    near = (abs(rows[:, None] - rows) <= 1) & (abs(columns[:, None] - columns) <= 1)
    return near & ~np.eye(REGIONS, dtype=bool)


def named_classes(localization):
    return localization.probabilities.argmax(axis=1).tolist()


@pytest.mark.parametrize("merge", ["same_name", "features", "overlap", "none"])
def test_a_whole_clip(benchmark, text, patches, merge):
    masks, settings = masks_of(GRID, SLOTS), NamingSettings(merge=merge)
    found = benchmark(name_clip, masks, patches, text, settings, FRAME)
    expected = [1, 2, 3, 4] if merge in ("same_name", "features") else [1, 1, 2, 3, 4, 4]
    assert named_classes(found) == expected


def test_a_clip_whose_slots_are_pooled(benchmark, text, pooled):
    found = benchmark(name_pooled, regions_of(GRID), pooled, text, DEFAULT, FRAME)
    assert named_classes(found) == [1, 2, 3, 4]


def test_winners_of_masks(benchmark):
    assert benchmark(winning_slots, masks_of(GRID, SLOTS), GRID[0]).equal(regions_of(GRID))


def test_pooling(benchmark, patches):
    sums = benchmark(pool_slots, regions_of(GRID), REGIONS, patches)
    np.testing.assert_allclose(sums.sum(dim=0), patches.flatten(0, 2).sum(dim=0), rtol=0, atol=1e-2)


@pytest.mark.parametrize("kind", ["full", "reference"])
def test_graph_of_touching_slots(benchmark, kind):
    touches = benchmark(touching, regions_of(GRID).numpy(), SLOTS, kind)
    expected = neighbours()
    if kind == "reference":
        expected[[1, 3, 2, 4, 4, 6, 5, 7], [3, 1, 4, 2, 6, 4, 7, 5]] = False  # falling corners alone connect
    assert np.array_equal(touches[:REGIONS, :REGIONS], expected)
    assert not touches[REGIONS:].any()


def test_merging_slots_of_one_name(benchmark, text, pooled):
    kept = np.flatnonzero(CLASSES)
    touches = neighbours()[np.ix_(kept, kept)]
    groups = benchmark(merge_same_name, pooled.numpy()[kept], touches, text)
    assert [tuple(kept[list(group)].tolist()) for group in groups] == OBJECTS


def test_merging_alike_slots(benchmark, pooled):
    groups = benchmark(merge_alike, pooled.numpy(), 0.12)
    assert groups == [(0, 1), (2, 4, 6), (3,), (5,), (7, 8)]


def test_merging_overlapping_slots(benchmark):
    masks = masks_of(GRID, SLOTS)
    masks[1] = masks[0]
    settings = NamingSettings(merge="overlap")
    overlap = gather_evidence(settings, winning_slots(masks, GRID[0]), masks).overlap
    assert benchmark(merge_overlapping, overlap, 0.7)[0] == (0, 1)


def test_boxes_of_segments(benchmark):
    boxes, present = benchmark(segment_boxes, regions_of(GRID).numpy().astype(np.int16), SLOTS, FRAME)
    assert boxes.shape == (GRID[0], SLOTS, 4)
    assert present[:, :REGIONS].all()
    assert boxes[0, 0].tolist() == [0, 0, 16 * 9 - 1, 16 * 5 - 1]
    assert not boxes[:, REGIONS:].any()


def test_consensus_of_seeds(benchmark):
    """Five seeds, each with a twentieth of the patches elsewhere."""
    rng, regions = np.random.default_rng(0), regions_of(GRID).numpy()
    seeds = [
        np.where(rng.random(GRID) < 0.05, rng.integers(0, SLOTS, GRID), rng.permutation(SLOTS)[regions])
        for _ in range(5)
    ]
    groups = benchmark.pedantic(consensus, (np.stack(seeds), 2, 12, 0), rounds=3)
    assert groups.max() + 1 == REGIONS
    assert (groups == regions).mean() > 0.97
