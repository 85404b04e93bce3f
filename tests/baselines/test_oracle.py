"""Truth on patch grids, against cases counted by hand."""

import numpy as np
import pytest

from ovvol_baselines.oracle import patch_truth
from ovvol_bench import ClipInfo, DataError, FrameTruth


def frame(boxes, classes, tracks, masks=None):
    count = len(boxes)
    no = np.zeros(count, bool)
    corners = np.array(boxes, np.float32).reshape(count, 4)
    ids = np.array(classes, np.int64), np.array(tracks, np.int64)
    return FrameTruth(corners, *ids, no, no, np.ones(count, np.float32), masks)


def clip(*frames, size=(4, 6)):
    return ClipInfo("v/0", "v", tuple(range(len(frames))), size, frames)


def pixels(size, *places):
    masks = np.zeros((len(places), *size), bool)
    for mask, place in zip(masks, places, strict=True):
        mask[place] = True
    return masks


def test_masks_are_counted_patch_by_patch():
    masks = pixels((4, 6), np.s_[0:2, 0:3], np.s_[2:4, 4:6])  # six pixels, and a whole patch
    known = patch_truth(clip(frame([[0, 0, 2, 1], [4, 2, 5, 3]], [3, 1], [7, 5], masks)), (2, 3))
    assert known.cover[:, 0].tolist() == [
        [[0, 0.5, 1], [1, 1, 0]],
        [[1, 0.5, 0], [0, 0, 0]],
        [[0, 0, 0], [0, 0, 1]],
    ]
    assert known.track_ids.tolist() == [7, 5]
    assert known.rows[0].tolist() == [[1, 0, 0], [0, 0, 2]]  # equal shares: the background
    assert known.classes[0].tolist() == [[3, 0, 0], [0, 0, 1]]


def test_a_grid_that_does_not_divide_the_frame_shares_pixels():
    masks = pixels((1, 4), np.s_[0:1, 0:2])
    known = patch_truth(clip(frame([[0, 0, 1, 0]], [1], [0], masks), size=(1, 4)), (1, 3))
    assert np.allclose(known.cover[1, 0, 0], [1, 0.5, 0])


def test_the_smaller_of_two_boxes_is_in_front():
    known = patch_truth(clip(frame([[0, 0, 1, 1], [0, 0, 5, 3]], [1, 2], [0, 1])), (2, 3))
    assert known.rows[0].tolist() == [[1, 2, 2], [2, 2, 2]]


def test_a_box_that_leaves_the_frame_is_cut():
    known = patch_truth(clip(frame([[-9, -9, 1, 1], [4, 2, 99, 99]], [1, 2], [0, 1])), (2, 3))
    assert known.rows[0].tolist() == [[1, 0, 0], [0, 0, 2]]


def test_a_track_is_one_object_and_boxes_without_are_one_each():
    one = frame([[0, 0, 1, 1], [2, 0, 3, 1]], [1, 2], [4, -1])
    two = frame([[2, 0, 3, 1], [0, 2, 1, 3]], [2, 1], [-1, 4])
    known = patch_truth(clip(one, two), (2, 3))
    assert known.track_ids.tolist() == [4, -1, -1]
    assert known.class_ids.tolist() == [1, 2, 2]
    assert known.rows.tolist() == [[[1, 2, 0], [0, 0, 0]], [[0, 3, 0], [1, 0, 0]]]


def test_a_step_is_the_mean_of_its_frames():
    one, two = frame([[0, 0, 1, 1]], [1], [0]), frame([[2, 0, 3, 1]], [1], [0])
    known = patch_truth(clip(one, two), (2, 3)).in_steps(1)
    assert known.cover[1].tolist() == [[[0.5, 0.5, 0], [0, 0, 0]]]


def test_a_frame_without_objects_is_background():
    known = patch_truth(clip(frame([], [], [])), (2, 3))
    assert known.cover.shape == (1, 1, 2, 3)
    assert not known.classes.any()


def test_a_clip_without_truth_is_refused():
    with pytest.raises(DataError, match="v/0 has no truth"):
        patch_truth(ClipInfo("v/0", "v", (0,), (4, 6)), (2, 3))
