"""Tracks are joined over clips by class and overlap."""

from dataclasses import replace

import numpy as np
import pytest

from ovvol_bench.detections import Detections, Frames
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.linking import link_clips
from ovvol_bench.types import ClipInfo

CLIPS = [
    ClipInfo(f"{video}/{start}", video, (start, start + 1), (50, 50))
    for video, start in (("a", 0), ("a", 2), ("a", 4), ("b", 0))
]
BOX, SHIFTED, FAR = [0, 0, 9, 9], [2, 0, 11, 9], [30, 30, 39, 39]


def detections(*rows):
    """Of (frame, track, box, class, score)."""
    rows = sorted(rows, key=lambda row: row[0])
    frame, track, boxes, class_ids, scores = zip(*rows, strict=True)
    return Detections(
        Frames.of(CLIPS),
        np.array(frame),
        np.array(boxes, np.float32),
        np.array(class_ids),
        np.array(scores, float),
        np.array(track),
        3,
    )


def linked(*rows, **settings):
    return link_clips(detections(*rows), CLIPS, **settings).tracks.tolist()


def test_a_track_goes_on_over_all_clips():
    rows = [(frame, frame // 2, BOX, 1, 0.5) for frame in range(6)]
    assert linked(*rows) == [0] * 6


def test_another_class_or_place_or_video_is_another_track():
    assert linked((1, 0, BOX, 1, 0.5), (2, 1, BOX, 2, 0.5)) == [0, 1]
    assert linked((1, 0, BOX, 1, 0.5), (2, 1, FAR, 1, 0.5)) == [0, 1]
    assert linked((5, 0, BOX, 1, 0.5), (6, 1, BOX, 1, 0.5)) == [0, 1]


def test_only_what_reaches_the_cut_is_joined():
    assert linked((0, 0, BOX, 1, 0.5), (2, 1, BOX, 1, 0.5)) == [0, 1]
    assert linked((1, 0, BOX, 1, 0.5), (3, 1, BOX, 1, 0.5)) == [0, 1]


def test_the_threshold_counts_with_inclusive_ends():
    rows = (1, 0, BOX, 1, 0.5), (2, 1, SHIFTED, 1, 0.5)  # 80 of 120 pixels
    assert linked(*rows, iou_threshold=0.66) == [0, 0]
    assert linked(*rows, iou_threshold=0.67) == [0, 1]
    with pytest.raises(SettingError, match="iou_threshold is 0"):
        linked(*rows, iou_threshold=0)


def test_pairs_are_chosen_for_the_highest_sum():
    rows = [
        (1, 0, [0, 0, 9, 9], 1, 0.5),
        (1, 1, [3, 0, 12, 9], 1, 0.5),
        (2, 5, [1, 0, 10, 9], 1, 0.5),
        (2, 6, [0, 0, 9, 9], 1, 0.5),
    ]
    assert linked(*rows, iou_threshold=0.3) == [0, 1, 1, 0]


def test_the_class_of_a_track_is_that_of_its_highest_score():
    """As in exports with a box for every class: all of a track's rows are renamed."""
    rows = [
        (1, 0, BOX, 1, 0.2),
        (1, 0, BOX, 2, 0.7),
        (2, 1, BOX, 1, 0.4),
        (2, 1, BOX, 2, 0.6),
        (2, 2, BOX, 1, 0.9),
    ]
    assert linked(*rows) == [0, 0, 0, 0, 2]


def test_untracked_detections_are_left_alone():
    assert linked((1, -1, BOX, 1, 0.5), (2, -1, BOX, 1, 0.5)) == [-1, -1]
    assert linked((1, -1, BOX, 1, 0.5), (2, 4, BOX, 1, 0.5)) == [-1, 4]


def test_tracks_that_cross_a_cut_already_keep_their_numbers():
    assert linked((1, 7, BOX, 1, 0.5), (2, 7, BOX, 1, 0.5), (2, 8, BOX, 1, 0.5)) == [7, 7, 8]


def test_nothing_else_changes():
    found = detections((1, 0, BOX, 1, 0.5), (2, 1, BOX, 1, 0.5))
    again = replace(link_clips(found, CLIPS), tracks=found.tracks)
    assert all(
        np.array_equal(getattr(again, name), getattr(found, name)) for name in ("frame", "boxes", "scores")
    )
