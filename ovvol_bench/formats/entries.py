"""Entries of any file as columns, and the checks that make detections of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ovvol_bench.arrays import Bools, Doubles, Ints
from ovvol_bench.detections import Detections
from ovvol_bench.formats.content import IN_NO_CLIP, NO_CLASS, Content
from ovvol_bench.formats.faults import Report, Rows
from ovvol_bench.masks import SizedMasks

MARGIN = 1.0
"""Pixels that a box may reach over the frame: programs differ by one in where a frame ends."""

FARTHEST = 1e9
"""Pixels: the areas of boxes that reach farther are beyond single precision."""


@dataclass(frozen=True)
class Entries:
    """E entries, looked up in the dataset; those that are not ``rows.good`` may hold anything.

    Attributes:
        rows: which are good so far.
        frame: (E,) int64 row of the dataset's frames.
        boxes: (E, 4) float64 x1, y1, x2, y2, ends inclusive.
        class_ids: (E,) int64 in [0, C].
        scores: (E,) float64.
        tracks: (E,) int64, -1 where unknown.
        masks: or None where the file has none.
        thin: whether boxes, or (E,) which, may be thinner than a pixel, as where a file says width
            and height.
    """

    rows: Rows
    frame: Ints
    boxes: Doubles
    class_ids: Ints
    scores: Doubles
    tracks: Ints
    masks: SizedMasks | None = None
    thin: bool | Bools = True


def known_frames(rows: Rows, content: Content, numbers: Ints) -> Ints:
    """(E,) the frame of each frame number; others than the dataset's are refused."""
    frame = content.frame_rows(numbers)
    known = content.ids.frames
    span = f"{min(known)} to {max(known)}" if known else "none"
    refuse_unknown(rows, frame, "frame", lambda row: f"number {numbers[row]}; the dataset has {span}")
    return frame


def known_positions(rows: Rows, content: Content, video: Ints, index: Ints) -> Ints:
    """(E,) the frame at each position, from 0, in videos of the dataset; others are refused."""
    frame = content.position_rows(video, index)

    def say(row: int) -> str:
        name, length = content.frames.videos[video[row]], content.video_lengths[video[row]]
        return f"{index[row] + 1} (counted from 1) of video '{name}', which has {length}"

    refuse_unknown(rows, frame, "frame", say)
    return frame


def known_videos(rows: Rows, content: Content, numbers: Ints) -> Ints:
    """(E,) the video of each video number; others than the dataset's are refused."""
    video = content.video_rows(numbers)
    refuse_unknown(
        rows,
        video,
        "video",
        lambda row: f"number {numbers[row]}; the dataset has {_listed(content.ids.videos)}",
    )
    return video


def refuse_unknown(rows: Rows, found: Ints, what: str, say: Callable[[int], str]) -> None:
    """Leave out entries about what the dataset has in no clip, refuse those about what it doesn't have.

    Args:
        rows: of the entries.
        found: (E,) row of the frame or video, else ``UNKNOWN`` or ``IN_NO_CLIP``.
        what: ``frame`` or ``video``.
        say: which one a row is about, and what the dataset has.
    """
    rows.leave_out(found == IN_NO_CLIP, f"{what} in no clip")
    rows.refuse(
        found < 0,
        f"unknown {what}",
        lambda row: f"unknown {what} {say(row)} (is the file of another dataset or split?)",
    )


def known_classes(rows: Rows, content: Content, numbers: Ints) -> Ints:
    """(E,) the class id of each class number; those of no class are refused."""
    class_ids = content.class_ids(numbers)
    rows.refuse(
        class_ids < 0,
        "unknown class",
        lambda row: (
            f"unknown class {numbers[row]}; the dataset has {_listed(content.ids.classes)}, and "
            f"{NO_CLASS} stands for none"
        ),
    )
    return class_ids


def detections_from(entries: Entries, content: Content, name: str, count: int) -> tuple[Detections, Report]:
    """Check entries and put them in the order of the frames.

    Args:
        entries: of a file.
        content: of the dataset.
        name: of the format.
        count: entries of the file, those included that are refused already.

    Raises:
        DataError: naming the first entry with a fault, unless faults are skipped: numbers that are not
            finite, boxes that are inverted or outside the frame, masks that are broken or of another size,
            tracks that are twice in a frame.
    """
    if entries.masks is not None:
        _check_masks(entries, entries.masks, content)
    _check_numbers(entries)
    _check_boxes(entries, content)
    beyond = _check_reach(entries, content)
    _check_repeats(entries)
    good = np.flatnonzero(entries.rows.good)
    good = good[np.argsort(entries.frame[good], kind="stable")]
    counts = None if entries.masks is None else entries.masks.counts
    found = Detections(
        content.frames,
        entries.frame[good],
        _cut(entries.boxes, content.sizes(entries.frame))[good]
        if content.out_of_frame == "clip"
        else entries.boxes[good],
        entries.class_ids[good],
        entries.scores[good],
        entries.tracks[good],
        content.classes,
        None if counts is None else tuple(counts[row] or b"" for row in good.tolist()),
    )
    outside = good[(found.scores < 0) | (found.scores > 1)]
    report = Report(
        name,
        count,
        len(found),
        dict(entries.rows.faults.dropped),
        len(outside),
        _outside(entries, outside),
        int(beyond[good].sum()),
    )
    return found, report


def _outside(entries: Entries, rows: Ints) -> str:
    if not len(rows):
        return ""
    first = int(rows.min())
    return f"{entries.rows.faults.where(int(entries.rows.at[first]))}: score {entries.scores[first]:g}"


def _check_numbers(entries: Entries) -> None:
    bounded = (np.abs(entries.boxes) <= FARTHEST).all(axis=1)
    undefined = ~(bounded & np.isfinite(entries.scores))
    entries.rows.refuse(
        undefined,
        "not a number",
        lambda row: (
            f"box {entries.boxes[row].tolist()} with score {entries.scores[row]}; expected finite numbers, "
            f"and pixels within {FARTHEST:g} of the frame"
        ),
    )


def _check_boxes(entries: Entries, content: Content) -> None:
    x1, y1, x2, y2 = entries.boxes.T
    entries.rows.refuse(
        (x2 < x1 - entries.thin) | (y2 < y1 - entries.thin),
        "inverted box",
        lambda row: (
            f"box {entries.boxes[row].tolist()}; expected x1 <= x2 and y1 <= y2, the last pixels inside"
            + (" (no negative width or height)" if entries.thin else "")
        ),
    )


def _check_reach(entries: Entries, content: Content) -> Bools:
    """(E,) which boxes reach out of their frame; refused if boxes must not, or if nothing is left to cut."""
    (x1, y1, x2, y2), (height, width) = entries.boxes.T, content.sizes(entries.frame).T
    beyond: Bools = (np.minimum(x1, y1) < -MARGIN) | (x2 > width - 1 + MARGIN) | (y2 > height - 1 + MARGIN)
    refused = beyond & (content.out_of_frame == "refuse")
    entries.rows.refuse(
        refused,
        "box outside the frame",
        lambda row: (
            f"box {entries.boxes[row].tolist()} reaches out of its frame of {width[row]} x {height[row]} "
            "pixels; expected pixels of the original frame, cut at its edges"
        ),
    )
    nothing = (np.maximum(x1, 0) > np.minimum(x2, width - 1)) | (
        np.maximum(y1, 0) > np.minimum(y2, height - 1)
    )
    if content.out_of_frame == "clip":
        entries.rows.leave_out(beyond & nothing, "box wholly outside the frame")
    return beyond


def _cut(boxes: Doubles, sizes: Ints) -> Doubles:
    """Boxes cut at the edges of their frames."""
    last = np.tile(sizes[:, ::-1] - 1, 2)
    cut: Doubles = np.clip(boxes, 0, last)
    return cut


def _check_repeats(entries: Entries) -> None:
    """One track is in a frame once for each class."""
    tracked = np.flatnonzero(entries.rows.good & (entries.tracks >= 0))
    keys = np.stack([entries.frame[tracked], entries.tracks[tracked], entries.class_ids[tracked]])
    order = np.lexsort(keys[::-1])
    again = (np.diff(keys[:, order], axis=1) == 0).all(axis=0)
    repeated = np.zeros(len(entries.frame), np.bool_)
    repeated[tracked[order[1:][again]]] = True
    entries.rows.refuse(
        repeated,
        "repeated track",
        lambda row: (
            f"track {entries.tracks[row]} is in this frame already; expected each track once a frame "
            "and class. Is part of the file there twice?"
        ),
    )


def _check_masks(entries: Entries, masks: SizedMasks, content: Content) -> None:
    entries.rows.refuse(
        masks.missing,
        "no mask",
        lambda row: "no segmentation, though other entries have one; expected all or none",
    )
    sizes = content.sizes(entries.frame)
    entries.rows.refuse(
        (masks.sizes != sizes).any(axis=1),
        "mask of another size",
        lambda row: f"mask of {_size(masks.sizes[row])} pixels; expected the frame's {_size(sizes[row])}",
    )
    entries.rows.refuse(
        masks.broken,
        "broken mask",
        lambda row: (
            f"the run lengths of the mask don't add up to {_size(sizes[row])} pixels; expected COCO's"
        ),
    )


def _size(size: Ints) -> str:
    return f"{size[1]} x {size[0]}"


def _listed(numbers: Iterable[int], most: int = 6) -> str:
    """The first few numbers and the last, in order."""
    known = sorted(numbers)
    return ", ".join(map(str, known[:most])) + (f", ... {known[-1]}" if len(known) > most else "")
