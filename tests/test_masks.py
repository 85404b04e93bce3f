"""Masks as run lengths against the pixels that they stand for."""

import numpy as np
import pytest

from ovvol_bench.masks import RleMasks, SizedMasks, covered, read_mask

SIZE = (12, 20)


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


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[0, 0, 1e9, 0, 1e9, 1e9]], "coordinate beyond"),
        ([[0, 0, 1e300, 0, 5, 5]], "coordinate beyond"),
        ([[0, 0, 10**400, 0, 5, 5]], "coordinate beyond"),
        ([[0, 0, float("nan"), 0, 5, 5]], "coordinate beyond"),
        ([[0, 0, 4e6, 0, 0, 4e6]], "outlines are longer"),
        ([[0, 0, "1", 0, 5, 5]], "no finite number"),
        ([[0, 0, 5, 5]], "at least 3 points"),
        ([0, 0, 5, 0, 5, 5], "at least 3 points"),
        ({"size": [0, 12], "counts": "0"}, "height and width"),
        ({"size": [10**18, 10**18], "counts": "0"}, "height and width"),
        ({"size": [float("inf"), 12], "counts": "0"}, "is no mask"),
        ({"size": [12], "counts": "0"}, "is no mask"),
        ({"size": [12, 20]}, "is no mask"),
        ("0", "is no mask"),
        ({"size": [12, 20], "counts": [-1, 241]}, "whole numbers from 0"),
        ({"size": [12, 20], "counts": [10**30]}, "pixels in all"),
        ({"size": [12, 20], "counts": "ééé"}, "no compressed run lengths"),
        ({"size": [12, 20], "counts": "\ud800"}, "no compressed run lengths"),
        ({"size": [12, 20], "counts": ""}, "no compressed run lengths"),
        ({"size": [12, 20], "counts": None}, "neither text nor a list"),
    ],
)
def test_hostile_masks_are_refused_before_native_code_sees_them(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        read_mask(segmentation, SIZE)


def test_polygons_that_reach_out_of_the_frame_are_drawn_inside():
    runs, _ = read_mask([[-50, -50, 200, -50, 200, 6, -50, 6]], SIZE)
    pixels = RleMasks(SIZE, (runs,)).decode()[0]
    assert np.array_equal(pixels, np.arange(12)[:, None] < np.full(20, 6))


def test_frames_of_more_pixels_than_any_has_are_refused():
    with pytest.raises(ValueError, match="height and width"):
        read_mask([[0, 0, 5, 0, 5, 5]], (10**9, 10**9))


@pytest.mark.parametrize(
    "counts", [b"oooo", b"522", b"52203o", b"\xff0", b"0" * 300, b"52203?", b"ooooooooooo0"]
)
def test_run_lengths_that_do_not_add_up_are_told_before_they_are_decoded(counts):
    whole = RleMasks.of(np.ones((1, *SIZE), bool)).counts[0]
    assert covered([whole, counts, whole]).tolist()[::2] == [240, 240]
    masks = SizedMasks([whole, counts, None], np.array([SIZE] * 3))
    assert masks.broken.tolist() == [False, True, False]
    assert masks.missing.tolist() == [False, False, True]
    assert masks.boxes()[0].tolist() == [0, 0, 19, 11]
    assert np.isnan(masks.boxes()[1:]).all()


def test_masks_of_files_may_differ_in_size_and_be_empty():
    values = [{"size": [2, 3], "counts": [6]}, [[1, 1, 3, 1, 3, 3, 1, 3]], {"size": [2, 2], "counts": [3, 1]}]
    masks = SizedMasks.read(values, [SIZE] * 3)
    assert masks.sizes.tolist() == [[2, 3], list(SIZE), [2, 2]]
    assert masks.boxes().tolist() == [[0, 0, -1, -1], [1, 1, 2, 2], [1, 1, 1, 1]]
