"""Tracks over clips: a method that looks at one clip at a time starts its segments anew in each.

Links are made of boxes and classes alone, so any detections can be linked that are cut where clips are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.detections import Detections
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.boxes import box_iou
from ovvol_bench.types import ClipInfo


@dataclass(frozen=True)
class Spans:
    """First and last detections of N tracks, and their classes.

    Attributes:
        first: (N,) int64 row of its first detection.
        last: (N,) int64 row of its last detection.
        class_ids: (N,) int64, the class of its highest score.
    """

    first: Ints
    last: Ints
    class_ids: Ints


def link_clips(detections: Detections, clips: Sequence[ClipInfo], iou_threshold: float = 0.5) -> Detections:
    """Join tracks that end with a clip to tracks that begin with the next clip of the video.

    Of the tracks that are in a clip's last frame and those in the next clip's first, pairs of one class (that
    of a track's highest score) whose boxes have an IoU of at least the threshold, ends inclusive, may be
    joined. They are chosen one to one so that the sum of IoUs is highest (Hungarian matching); a joined track
    has the number of its first part. Detections without a track are left alone.

    Args:
        detections: in the frames of the clips.
        clips: in order (see ``detections.in_order``), without context frames.
        iou_threshold: above 0, at most 1.

    Returns:
        The same detections with other tracks.

    Raises:
        SettingError: if the threshold is out of range.
    """
    if not 0 < iou_threshold <= 1:
        raise SettingError(f"iou_threshold is {iou_threshold}; expected above 0 and at most 1")
    tracked = np.flatnonzero(detections.tracks >= 0)
    if not len(tracked):
        return detections
    keys = np.stack([detections.video[tracked], detections.tracks[tracked]], axis=1)
    _, first, track = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    spans = _spans(detections, tracked, track.reshape(-1), first)
    root = np.arange(len(first))
    for before, after in _candidates(detections, clips, spans):
        for one, other in _pairs(detections, spans, before, after, iou_threshold):
            root[other] = root[one]
    tracks = detections.tracks.copy()
    tracks[tracked] = detections.tracks[spans.first[root[track.reshape(-1)]]]
    return replace(detections, tracks=tracks)


def _spans(detections: Detections, tracked: Ints, track: Ints, first: Ints) -> Spans:
    """The tracks of detections.

    Args:
        detections: of any kind.
        tracked: (D,) rows with a track.
        track: (D,) in [0, N), the track of each of these.
        first: (N,) where in ``tracked`` each track is first.
    """
    best = np.lexsort((-detections.scores[tracked], track))
    starts = np.flatnonzero(np.diff(track[best], prepend=-1))
    last = np.zeros(len(first), np.int64)
    last[track] = tracked  # of several rows the last one stays
    return Spans(tracked[first], last, detections.class_ids[tracked[best[starts]]])


def _candidates(
    detections: Detections, clips: Sequence[ClipInfo], spans: Spans
) -> Iterator[tuple[Ints, Ints]]:
    """Pair the tracks that end with a clip and those that begin with the next one of its video."""
    ends = np.cumsum([len(clip.frame_indices) for clip in clips])
    by_first, by_last = np.argsort(detections.frame[spans.first]), np.argsort(detections.frame[spans.last])
    firsts, lasts = detections.frame[spans.first][by_first], detections.frame[spans.last][by_last]
    for end, (clip, following) in zip(ends.tolist(), pairwise(clips), strict=False):
        if clip.video == following.video:
            ending = by_last[slice(*np.searchsorted(lasts, [end - 1, end]))]
            beginning = by_first[slice(*np.searchsorted(firsts, [end, end + 1]))]
            if len(ending) and len(beginning):
                yield ending, beginning


def _pairs(
    detections: Detections, spans: Spans, before: Ints, after: Ints, iou_threshold: float
) -> Iterator[tuple[int, int]]:
    """The tracks to join at one place."""
    from scipy.optimize import linear_sum_assignment

    boxes = detections.boxes.astype(np.float32)
    iou = box_iou(boxes[spans.last[before]], boxes[spans.first[after]], offset=1)
    same = spans.class_ids[before][:, None] == spans.class_ids[after]
    iou = np.where(same & (iou >= iou_threshold), iou, 0)
    rows, columns = linear_sum_assignment(iou, maximize=True)
    joined = iou[rows, columns] > 0
    yield from zip(before[rows[joined]].tolist(), after[columns[joined]].tolist(), strict=True)
