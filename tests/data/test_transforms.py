from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovvol_bench.data.transforms import (
    SCALES,
    Augmentation,
    draw_window,
    resize_boxes,
    resize_clip,
    resize_frames,
    target_size,
)
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


side = st.integers(1, 300)


def numbered(frames=2, height=12, width=20):
    """A clip in which every pixel tells its place."""
    count = frames * height * width * 3
    return np.random.default_rng(1).permutation(count).reshape(frames, height, width, 3).astype(np.uint8)


@given(st.tuples(side, side), st.tuples(side, side), st.integers(0, 1000))
def test_windows_lie_inside_the_frame(frame, size, seed):
    window = draw_window(frame, size, SCALES, np.random.default_rng(seed))
    assert window.height >= 1
    assert window.width >= 1
    assert 0 <= window.top <= frame[0] - window.height
    assert 0 <= window.left <= frame[1] - window.width


def test_sides_are_scaled_by_the_same_or_the_next_factor():
    rng = np.random.default_rng(0)
    windows = [draw_window((200, 400), (50, 50), SCALES, rng) for _ in range(2000)]
    sides = [200, 175, 150, 132]
    steps = Counter((sides.index(w.height), sides.index(w.width)) for w in windows)
    assert {abs(down - across) for down, across in steps} == {0, 1}
    assert len(steps) == 10
    assert min(steps.values()) > 100


def test_windows_lie_at_thirteen_places():
    rng = np.random.default_rng(0)
    windows = [draw_window((100, 300), (50, 100), (0.5,), rng) for _ in range(1000)]
    places = Counter((w.top, w.left) for w in windows)
    assert len(places) == 13
    assert {(0, 0), (0, 200), (50, 0), (50, 200), (25, 100), (12, 50)} <= places.keys()


def test_windows_have_the_shape_of_the_result():
    window = draw_window((100, 400), (96, 128), (1.0,), np.random.default_rng(0))
    assert (window.height, window.width) == (100, 133)


def test_frames_of_the_right_size_pass_untouched_where_nothing_is_drawn():
    clip = numbered()
    result = Augmentation(scales=(1.0,), flip=False).apply(clip, (12, 20), np.random.default_rng(0))
    assert np.shares_memory(result, clip)
    assert np.array_equal(result, clip)


def test_half_of_the_clips_are_mirrored_whole():
    clip, rng = numbered(), np.random.default_rng(0)
    results = [Augmentation(scales=(1.0,)).apply(clip, (12, 20), rng) for _ in range(200)]
    mirrored = [np.array_equal(result, clip[:, :, ::-1]) for result in results]
    assert all(m or np.array_equal(r, clip) for m, r in zip(mirrored, results, strict=True))
    assert 70 < sum(mirrored) < 130


def test_all_frames_are_cut_alike_and_the_same_draws_give_the_same_clip():
    still = np.repeat(numbered(frames=1), 3, axis=0)
    first, second = (Augmentation().apply(still, (8, 8), np.random.default_rng(5)) for _ in range(2))
    assert first.shape == (3, 8, 8, 3)
    assert first.dtype == np.uint8
    assert (first == first[:1]).all()
    assert np.array_equal(first, second)


def test_the_clip_itself_is_left_alone():
    clip = numbered()
    clip.flags.writeable = False
    Augmentation().apply(clip, (7, 9), np.random.default_rng(0))


def test_shrinking_averages_so_that_fine_stripes_turn_grey():
    stripes = np.zeros((1, 8, 16, 3), np.uint8)
    stripes[:, :, ::2] = 200
    assert (resize_clip(stripes, (4, 8)) == 100).all()


def test_growing_keeps_the_range_and_the_order():
    ramp = np.repeat(np.arange(0, 250, 50, dtype=np.uint8)[None, None, :, None], 3, axis=3)
    row = resize_clip(ramp, (2, 20))[0, 0, :, 0].astype(int)
    assert (np.diff(row) >= 0).all()
    assert (row[0], row[-1]) == (0, 200)


@pytest.mark.parametrize("scales", [(), (0.0,), (1.0, 1.2)])
def test_impossible_scales_are_refused(scales):
    with pytest.raises(SettingError, match=r"recipe\.crop_scales=.*up to 1"):
        Augmentation(scales=scales)
