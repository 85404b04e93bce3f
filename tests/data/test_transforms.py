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
    resized = resize_frames([ramp, ramp], (2, 8), 2)
    assert resized.shape == (2, 2, 8, 3)
    assert resized.dtype == np.float32
    assert 0 <= resized.min() <= resized.max() <= 1
    steps = resized[0, 0, :, 0] * 255 / 85
    assert np.allclose(steps, [0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], atol=1e-5)


def test_frames_of_the_right_size_keep_their_values():
    frame = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    assert np.array_equal(resize_frames([frame], (6, 5), 1)[0], frame / np.float32(255))


def test_no_frames_give_an_empty_array():
    assert resize_frames([], (4, 6), 0).shape == (0, 4, 6, 3)


def test_boxes_scale_with_both_sides_and_the_input_is_left_alone():
    boxes = np.array([[10, 20, 30, 40]], np.float32)
    assert np.allclose(resize_boxes(boxes, (100, 200), (50, 400)), [[20, 10, 60, 20]])
    assert np.array_equal(boxes, [[10, 20, 30, 40]])


def sources(length, new_length):
    """PyTorch's rule in float32: for every new position the old ones beside it, and the second's weight."""
    scale, half = np.float32(length) / np.float32(new_length), np.float32(0.5)
    places = np.maximum(scale * (np.arange(new_length, dtype=np.float32) + half) - half, np.float32(0))
    first = places.astype(int)
    return first, np.minimum(first + 1, length - 1), (places - first.astype(np.float32))[:, None]


def mixed(first, second, weight):
    return first + (second - first) * weight


@pytest.mark.parametrize("size", [(224, 400), (50, 37), (90, 20)])
def test_resizing_is_the_rule_to_the_last_bit(size):
    frame = np.random.default_rng(0).integers(0, 256, (72, 61, 3), dtype=np.uint8)
    (upper, lower, down), (left, right, across) = (
        sources(*each) for each in zip((72, 61), size, strict=True)
    )
    pixels = frame.astype(np.float32)
    rows = [mixed(pixels[place][:, left], pixels[place][:, right], across) for place in (upper, lower)]
    expected = mixed(*rows, down[:, None]) / np.float32(255)
    other = np.zeros((9, 5, 3), np.uint8)
    resized = resize_frames(iter([other, frame, frame]), size, 3)
    assert np.array_equal(resized[1], expected)
    assert np.array_equal(resized[2], expected)
    assert not resized[0].any(), "frames of several sizes are told apart"
