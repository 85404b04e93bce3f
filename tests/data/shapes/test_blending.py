from __future__ import annotations

import numpy as np
import pytest

from ovvol_bench.data.shapes.blending import SOURCES, blend
from ovvol_bench.data.shapes.render import render
from ovvol_bench.data.shapes.world import draw_scene


@pytest.fixture(scope="module")
def windows():
    found = []
    for index in range(30):
        video = render(draw_scene("train", index, frames=1))
        if not video.masks[0, :48, :48].any():
            found.append(video.frames[0, :48, :48])
    return found[:SOURCES]


def test_draws_alone_decide(windows):
    first, again, other = (blend(windows, np.random.default_rng(seed), 72) for seed in (3, 3, 4))
    assert first.shape == (72, 72, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_blends_are_new_and_vary(windows):
    blends = [blend(windows, np.random.default_rng(seed), 48) for seed in range(24)]
    for picture in blends:
        assert all(np.abs(picture.astype(int) - window).mean() > 4 for window in windows)
    roughness = [np.abs(np.diff(picture.astype(int), axis=0)).mean() for picture in blends]
    known = [np.abs(np.diff(window.astype(int), axis=0)).mean() for window in windows]
    assert min(roughness) < min(known)
    assert max(roughness) > max(known), "calmer and busier ones than there were"


def test_windows_of_one_colour_stay_of_one_colour():
    plain = [np.full((16, 20, 3), 100 + 20 * i, np.uint8) for i in range(SOURCES)]
    for seed in range(24):
        assert not blend(plain, np.random.default_rng(seed), 18).std(axis=(0, 1)).any()
