from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from ovvol_bench.data.motion import motion_iou, read_motion_iou
from ovvol_bench.errors import DataError


def plain_iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0]) + 1
    height = min(a[3], b[3]) - max(a[1], b[1]) + 1
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0] + 1) * (a[3] - a[1] + 1) + (b[2] - b[0] + 1) * (b[3] - b[1] + 1) - shared)


def plain_motion_iou(videos, frames, tracks, boxes):
    """The definition, box by box."""
    result = []
    for i in range(len(boxes)):
        ious = []
        for shift in range(-10, 11):
            same = [
                j
                for j in range(len(boxes))
                if (videos[j], tracks[j], frames[j]) == (videos[i], tracks[i], frames[i] + shift)
            ]
            if shift and same and tracks[i] >= 0:
                ious.append(plain_iou(boxes[i], boxes[same[0]]))
        result.append(np.mean(ious) if ious else np.nan)
    return result


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_vectorised_form_equals_the_definition(seed, count):
    rng = np.random.default_rng(seed)
    videos, tracks = rng.integers(0, 2, count), rng.integers(-1, 3, count)
    frames = rng.integers(0, 40, count)
    corner = rng.integers(0, 20, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 30, (count, 2))], axis=1).astype(np.float32)
    got = motion_iou(videos, frames, tracks, boxes)
    assert got.dtype == np.float32
    assert np.allclose(got, plain_motion_iou(videos, frames, tracks, boxes), equal_nan=True, atol=1e-6)


def test_a_still_object_has_one_and_a_lone_box_is_unknown():
    boxes = np.tile(np.array([[0, 0, 9, 9]], np.float32), (4, 1))
    got = motion_iou(np.zeros(4, int), np.array([0, 5, 30, 31]), np.array([1, 1, 1, 2]), boxes)
    assert np.array_equal(got, [1, 1, np.nan, np.nan], equal_nan=True)


def cells(*values):
    column = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        column[i, 0] = np.array(value, float).reshape(-1, 1)
    return column


def test_matlab_files_of_the_fgfa_layout_are_read(tmp_path):
    savemat(tmp_path / "m.mat", {"motion_iou": cells([0.5, 0.25], [], [0.75], [0.0])})
    values = read_motion_iou(tmp_path / "m.mat", np.array([2, 0, 1, 0]))
    assert values.tolist() == [0.5, 0.25, 0.75]


@pytest.mark.parametrize(
    ("counts", "message"), [([2, 0], "for 3 frames, the dataset has 2"), ([2, 0, 2], "1 values for frame 2")]
)
def test_matlab_files_of_another_dataset_are_refused(tmp_path, counts, message):
    savemat(tmp_path / "m.mat", {"motion_iou": cells([0.5, 0.25], [], [0.75])})
    with pytest.raises(DataError, match=message):
        read_motion_iou(tmp_path / "m.mat", np.array(counts))


def test_files_that_are_no_motion_files_are_named(tmp_path):
    (tmp_path / "bad.mat").write_text("text")
    savemat(tmp_path / "other.mat", {"x": 1})
    for name in ("bad.mat", "other.mat", "missing.mat"):
        with pytest.raises(DataError, match=f"{name} can't be read"):
            read_motion_iou(tmp_path / name, np.array([1]))
