"""A small dataset's content, and detections in it."""

import numpy as np
from hypothesis import strategies as st

from ovvol_bench.data.base import FileIds
from ovvol_bench.detections import Detections, Frames
from ovvol_bench.formats.entries import Content
from ovvol_bench.masks import RleMasks

SIZES = ((12, 20), (9, 7))
LENGTHS = (3, 2)
NAMES = ("val/first", "second")


def content() -> Content:
    """Two videos; numbers that follow no pattern, and frame 9 of a clip that isn't asked for."""
    frames = Frames(
        NAMES,
        np.array(SIZES, np.int64),
        np.repeat([0, 1], LENGTHS),
        np.concatenate([np.arange(length) for length in LENGTHS]),
    )
    ids = FileIds(
        videos={7: "val/first", 3: "second", 5: "third"},
        frames={
            10: ("val/first", 0),
            11: ("val/first", 1),
            12: ("val/first", 2),
            20: ("second", 0),
            2: ("second", 1),
            9: ("second", 2),
            30: ("third", 0),
        },
        classes={4: 1, 6: 2, 0: 3},
    )
    return Content(frames, ids, ("none", "cat", "domestic_dog", "owl"))


CONTENT = content()


@st.composite
def detections(draw, masks=False, tracks=True) -> Detections:
    """Any detections that a file may hold: each track once a frame and class, boxes of the masks."""
    count = draw(st.integers(0, 12))
    frame = np.sort(draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))).astype(np.int64)
    rows = [draw(one_detection(SIZES[CONTENT.frames.video[each]], masks, tracks)) for each in frame]
    keys = [(int(f), track, class_id) for f, (_, class_id, _, track, _) in zip(frame, rows, strict=True)]
    tracks_of = [-1 if key in keys[:place] else key[1] for place, key in enumerate(keys)]
    return Detections(
        CONTENT.frames,
        frame,
        np.array([row[0] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float64),
        np.array(tracks_of, np.int64),
        CONTENT.classes,
        tuple(row[4] for row in rows) if masks else None,
    )


@st.composite
def one_detection(draw, size, masks, tracks):
    height, width = size
    x1, x2 = sorted(draw(st.tuples(*[st.integers(0, width - 1)] * 2)))
    y1, y2 = sorted(draw(st.tuples(*[st.integers(0, height - 1)] * 2)))
    shift = 0 if masks else draw(st.floats(0, 1, width=16))
    pixels = np.zeros((1, height, width), np.bool_)
    pixels[0, y1 : y2 + 1, x1 : x2 + 1] = True
    pixels[0, y1, x1] &= x1 == x2 or y1 == y2
    track = draw(st.integers(-1, 4)) if tracks else -1
    score = draw(st.floats(0, 1, allow_subnormal=False))
    box = [x1, y1, x2, y2 + shift]
    return box, draw(st.integers(0, 3)), score, track, RleMasks.of(pixels).counts[0]


def one(**changes) -> Detections:
    """A detection in the first frame."""
    columns = {
        "frame": np.array([0]),
        "boxes": np.array([[1, 2, 5, 6]], np.float32),
        "class_ids": np.array([2]),
        "scores": np.array([0.5]),
        "tracks": np.array([3]),
    }
    return Detections(CONTENT.frames, **(columns | changes), classes=3)
