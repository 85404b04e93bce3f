from __future__ import annotations

import numpy as np
import pytest

from ovvol_bench.data.coco_masks import run_lengths
from ovvol_bench.masks import RleMasks

SIZE = (12, 20)


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
        ({"size": [20, 12], "counts": "0"}, "is of size"),
        ({"size": [10**18, 10**18], "counts": "0"}, "is of size"),
        ({"size": [12, 20], "counts": [-1, 241]}, "whole numbers from 0"),
        ({"size": [12, 20], "counts": [10**30]}, "pixels in all"),
        ({"size": [12, 20], "counts": "ééé"}, "no compressed run lengths"),
        ({"size": [12, 20], "counts": "\ud800"}, "no compressed run lengths"),
        ({"size": [12, 20], "counts": "oooo"}, "no compressed run lengths"),
        ({"size": [12, 20], "counts": None}, "neither text nor a list"),
    ],
)
def test_hostile_masks_are_refused_before_native_code_sees_them(segmentation, reason):
    with pytest.raises(ValueError, match=reason):
        run_lengths(segmentation, SIZE)


def test_polygons_that_reach_out_of_the_frame_are_drawn_inside():
    runs = run_lengths([[-50, -50, 200, -50, 200, 6, -50, 6]], SIZE)
    pixels = RleMasks(SIZE, (runs,)).decode()[0]
    assert np.array_equal(pixels, np.arange(12)[:, None] < np.full(20, 6))


def test_frames_of_more_pixels_than_any_has_are_refused():
    with pytest.raises(ValueError, match="height and width"):
        run_lengths([[0, 0, 5, 0, 5, 5]], (10**9, 10**9))
