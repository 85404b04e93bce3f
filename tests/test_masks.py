"""Masks as run lengths against the pixels that they stand for."""

import numpy as np
import pytest

from ovvol_bench.masks import RleMasks


@pytest.fixture
def pixels():
    masks = np.random.default_rng(0).random((3, 7, 5)) < 0.4
    masks[2] = False
    return masks


def test_masks_come_back_as_they_went(pixels):
    assert np.array_equal(RleMasks.of(pixels).decode(), pixels)
    assert np.array_equal(RleMasks.of(pixels).keep([1, 0]).decode(), pixels[[1, 0]])


def test_no_masks_have_a_shape():
    none = RleMasks.of(np.zeros((0, 4, 6), bool))
    assert none.decode().shape == (0, 4, 6)
    assert none.boxes().shape == (0, 4)
    assert none.areas().shape == (0,)
    assert none.iou(none).shape == (0, 0)


def test_boxes_hold_the_outermost_pixels(pixels):
    for mask, box in zip(pixels[:2], RleMasks.of(pixels).boxes(), strict=False):
        rows, columns = np.nonzero(mask)
        assert box.tolist() == [columns.min(), rows.min(), columns.max(), rows.max()]
    assert RleMasks.of(pixels).boxes()[2].tolist() == [0, 0, 0, 0]


def test_overlap_is_counted_in_pixels(pixels):
    iou = RleMasks.of(pixels).iou(RleMasks.of(pixels[::-1]))
    for i, first in enumerate(pixels):
        for j, second in enumerate(pixels[::-1]):
            union = (first | second).sum()
            assert iou[i, j] == pytest.approx((first & second).sum() / union if union else 0)


def test_areas_of_many_masks():
    masks = np.zeros((300, 4, 5), bool)
    masks[:, 1, :3] = True
    masks[299] = True
    assert RleMasks.of(masks).areas().tolist() == [3] * 299 + [20]


def test_intersections_are_counted_in_whole_pixels():
    rng = np.random.default_rng(0)
    first, second = rng.random((5, 7, 9)) < 0.5, rng.random((3, 7, 9)) < 0.5
    expected = (first[:, None] & second[None]).sum(axis=(2, 3))
    assert np.array_equal(RleMasks.of(first).intersections(RleMasks.of(second)), expected)
