"""Speed of overlaps: of boxes, a frame's and a dataset's at once, and of masks as run lengths.

pytest benchmarks/test_boxes_speed.py --benchmark-enable
"""

import numpy as np
import pytest
from synthetic_vid import boxes_on_the_grid

from ovvol_bench.masks import RleMasks
from ovvol_bench.metrics.boxes import box_iou, paired_iou

FRAME = (360, 640)


@pytest.fixture(scope="module")
def rng():
    return np.random.default_rng(0)


def plain_iou(one, other):
    """Of two boxes with exclusive ends, as one would write it down."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    both = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return both / (area - both)


def test_every_pair_of_a_frame(benchmark, rng):
    first, second = boxes_on_the_grid(rng, 300), boxes_on_the_grid(rng, 20)
    overlaps = benchmark(box_iou, first, second)
    assert overlaps.shape == (300, 20)
    for i, j in zip(range(0, 300, 37), range(9), strict=True):
        assert overlaps[i, j] == pytest.approx(plain_iou(first[i].tolist(), second[j].tolist()))


def test_listed_pairs(benchmark, rng):
    boxes, count = boxes_on_the_grid(rng, 5000), 100_000
    rows, others = rng.integers(0, len(boxes), (2, count))
    overlaps = benchmark(paired_iou, boxes, rows, boxes, others)
    assert overlaps.shape == (count,)
    for place in range(0, count, 9973):
        one, other = boxes[rows[place]].tolist(), boxes[others[place]].tolist()
        assert overlaps[place] == pytest.approx(plain_iou(one, other))


def discs(rng, count):
    """(N, H, W) bool masks of discs."""
    rows, columns = np.mgrid[: FRAME[0], : FRAME[1]]
    centers = rng.uniform(0.2, 0.8, (count, 2)) * FRAME
    return np.stack([np.hypot(rows - y, columns - x) < 60 for y, x in centers])


def test_masks_to_run_lengths(benchmark, rng):
    masks = discs(rng, 8)
    assert np.array_equal(benchmark(RleMasks.of, masks).decode(), masks)


def test_boxes_of_masks(benchmark, rng):
    masks = discs(rng, 8)
    boxes = benchmark(RleMasks.of(masks).boxes)
    for box, mask in zip(boxes.tolist(), masks, strict=True):
        rows, columns = np.nonzero(mask)
        assert box == [columns.min(), rows.min(), columns.max(), rows.max()]


def test_overlaps_of_masks(benchmark, rng):
    one, other = discs(rng, 8), discs(rng, 6)
    overlaps = benchmark(RleMasks.of(one).iou, RleMasks.of(other))
    both, either = (one[:, None] & other).sum((2, 3)), (one[:, None] | other).sum((2, 3))
    np.testing.assert_allclose(overlaps, both / either)
