from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovvol_bench.data.transforms import SCALES, Augmentation, draw_window, resize_clip
from ovvol_bench.errors import SettingError

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
