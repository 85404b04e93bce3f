from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovvol_bench.data.transforms import resize_boxes, resize_frames, target_size
from ovvol_bench.errors import SettingError


@given(
    st.tuples(st.integers(1, 4000), st.integers(1, 4000)), st.sampled_from([(224, 16), (64, 16), (96, 32)])
)
def test_short_side_is_fixed_and_both_sides_are_multiples(size, rule):
    short_side, multiple = rule
    resized = target_size(size, short_side, multiple)
    assert min(resized) == short_side
    assert all(side % multiple == 0 for side in resized)
    assert (resized[0] <= resized[1]) == (size[0] <= size[1] or resized[0] == resized[1])


@pytest.mark.parametrize("side", [1, 37, 224, 500])
def test_square_stays_square(side):
    assert target_size((side, side)) == (224, 224)


@pytest.mark.parametrize(("short_side", "multiple"), [(220, 16), (0, 16), (8, 16), (224, 0)])
def test_sizes_that_do_not_fit_are_refused_with_a_proposal(short_side, multiple):
    with pytest.raises(SettingError, match=r"Set short_side to \d+"):
        target_size((10, 20), short_side, multiple)


def test_frames_become_floats_in_the_unit_range_without_rounding():
    ramp = np.repeat(np.arange(0, 256, 85, dtype=np.uint8)[None, :, None], 3, axis=2)
    resized = resize_frames([ramp, ramp], (2, 8))
    assert resized.shape == (2, 2, 8, 3)
    assert resized.dtype == np.float32
    assert 0 <= resized.min() <= resized.max() <= 1
    steps = resized[0, 0, :, 0] * 255 / 85
    assert np.allclose(steps, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], atol=1e-5)


def test_frames_of_the_right_size_keep_their_values():
    frame = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    assert np.array_equal(resize_frames([frame], (6, 5))[0], frame / np.float32(255))


def test_no_frames_give_an_empty_array():
    assert resize_frames([], (4, 6)).shape == (0, 4, 6, 3)


def test_boxes_scale_with_both_sides_and_the_input_is_left_alone():
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    assert np.allclose(resize_boxes(boxes, (100, 200), (50, 400)), [[20, 10, 60, 20]])
    assert np.array_equal(boxes, [[10, 20, 30, 40]])
