"""Speed of objects, as the overlap with their own boxes nearby in time."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ovvol_bench.arrays import Floats, Ints
from ovvol_bench.errors import DataError

REACH = 10  # frames to either side


def motion_iou(videos: Ints, frames: Ints, tracks: Ints, boxes: Floats) -> Floats:
    """Take the mean IoU of every box with the same track's boxes at -10 to +10 frames, without itself.

    FGFA (Zhu et al., ICCV 2017, section 5) calls objects above 0.9 slow and below 0.7 fast; the mean is
    over the frames that have the track, as its authors state.

    Args:
        videos: (M,) index of the video of every box.
        frames: (M,) frame number.
        tracks: (M,) track id, unique within the video; negative where unknown.
        boxes: (M, 4) x1, y1, x2, y2, pixels.

    Returns:
        (M,) float32 in [0, 1]; NaN where the track is unknown or has no box nearby.
    """
    # Number the boxes of known tracks so that neighbours in time differ by their frames: a video's track has
    # a span of numbers of its own, with room on both sides, so that tracks never touch.
    order = np.flatnonzero(tracks >= 0)
    names = np.stack([videos[order], tracks[order]], axis=1)
    _, identity = np.unique(names, axis=0, return_inverse=True)
    span = int(frames.max(initial=0)) + 2 * REACH + 1
    keys = identity.reshape(-1).astype(np.int64) * span + frames[order]
    ascending = np.argsort(keys, kind="stable")
    order, keys = order[ascending], keys[ascending]
    # Ends are inclusive: a side is x2 - x1 + 1 pixels.
    areas = np.prod(boxes[:, 2:] - boxes[:, :2] + 1, axis=1, dtype=np.float64)
    total, count = np.zeros(len(boxes)), np.zeros(len(boxes), np.int64)
    for shift in (*range(-REACH, 0), *range(1, REACH + 1)):
        there = np.searchsorted(keys, keys + shift)  # the first box, where a frame has a track twice
        here = np.flatnonzero(keys[np.minimum(there, len(keys) - 1)] == keys + shift)
        first, second = order[here], order[there[here]]
        low = np.maximum(boxes[first, :2], boxes[second, :2])
        high = np.minimum(boxes[first, 2:], boxes[second, 2:])
        shared = np.prod(np.clip(high - low + 1, 0, None), axis=1, dtype=np.float64)
        total[first] += shared / (areas[first] + areas[second] - shared)
        count[first] += 1
    known = count > 0
    result = np.full(len(boxes), np.nan, np.float32)
    result[known] = total[known] / count[known]
    return result


def read_motion_iou(path: Path, counts: Ints) -> Floats:
    """Read FGFA's ``*_groundtruth_motion_iou.mat``: a cell a frame with a value an object.

    Args:
        path: of the MATLAB file.
        counts: (F,) objects in every frame of the dataset, in the list's order.

    Returns:
        (M,) float32, in the order of the annotations.

    Raises:
        DataError: if the file can't be read or doesn't fit the dataset's frames and objects.
    """
    from scipy.io import loadmat

    try:
        cells = loadmat(path)["motion_iou"].reshape(-1)
        values = [np.asarray(cell, np.float32).reshape(-1) for cell in cells]
    except Exception as error:  # loadmat raises its own errors, and those of zlib and struct
        raise DataError(
            f"Motion file {path} can't be read ({error}): expected a .mat with motion_iou."
        ) from error
    if len(values) != len(counts):
        raise DataError(
            f"Motion file {path} is for {len(values)} frames, the dataset has {len(counts)}. "
            "Use the list that it was made for, or motion_iou=tracks."
        )
    # The file has one value for a frame without objects.
    kept = [value[:count] for value, count in zip(values, counts, strict=True)]
    wrong = [
        i for i, count in enumerate(counts) if len(kept[i]) != count or (count and len(values[i]) > count)
    ]
    if wrong:
        raise DataError(
            f"Motion file {path} has {len(values[wrong[0]])} values for frame {wrong[0]}, the dataset has "
            f"{counts[wrong[0]]} objects there. Use it without a class filter, or motion_iou=tracks."
        )
    return np.concatenate([np.zeros(0, np.float32), *kept])
