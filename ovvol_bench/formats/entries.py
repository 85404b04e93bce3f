"""Entries of a file as columns, looked up in the dataset and checked, and the detections made of them.

A fault is refused with one message, or the entry is left out and counted by reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ovvol_bench.arrays import Bools, Doubles, Ints
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError
from ovvol_bench.formats.content import IN_NO_CLIP, NO_CLASS, Content
from ovvol_bench.masks import SizedMasks

MARGIN = 1.0  # pixels that a box may reach over the frame: programs differ by one in where a frame ends
FARTHEST = 1e9  # pixels: the areas of boxes that reach farther are beyond single precision

OnError = Literal["fail", "skip"]


@dataclass(frozen=True)
class Report:
    """Counts of a file that was read.

    Attributes:
        format: the file's.
        entries: entries of the file (lines, objects).
        detections: boxes that were made of them.
        dropped: entries that were left out, reason to count.
        scores_outside: detections whose score is no probability.
        first_outside: the first of them, for messages; empty where there is none.
        out_of_frame: detections whose box reaches out of its frame, before any was cut.
        unscored: detections that the file gives no score; they have 1.
    """

    format: str
    entries: int
    detections: int
    dropped: Mapping[str, int]
    scores_outside: int = 0
    first_outside: str = ""
    out_of_frame: int = 0
    unscored: int = 0


class Faults:
    """Faults of the entries of one file: counted, or the first raised.

    Args:
        where: file and place of the entry with a number, for messages.
        on_error: ``fail`` raises at the first reason, ``skip`` counts.

    Attributes:
        dropped: entries that were left out so far, reason to count.
    """

    def __init__(self, where: Callable[[int], str], on_error: OnError) -> None:
        self.where = where
        self.on_error = on_error
        self.dropped: dict[str, int] = {}

    def of(self, where: Callable[[int], str]) -> Faults:
        """Return the faults of another list of the same file, counted together."""
        other = Faults(where, self.on_error)
        other.dropped = self.dropped
        return other

    def found(self, reason: str, at: Ints, what: str) -> None:
        """Refuse entries that can't be used.

        Args:
            reason: a few words, the same for all such entries.
            at: (N,) numbers of the entries, N at least 1.
            what: what the first of them has, and what was expected.

        Raises:
            DataError: if faults are not to be skipped.
        """
        if self.on_error == "fail":
            first = f" (the first of {len(at)} such entries)" if len(at) > 1 else ""
            raise DataError(
                f"{self.where(int(at[0]))}{first}: {what}. Mend the file, or leave such entries out with "
                "--on-error skip"
            )
        self.leave_out(reason, len(at))

    def leave_out(self, reason: str, count: int) -> None:
        """Count entries that aren't wrong, but about nothing that is asked for."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count


class Rows:
    """E entries, of which some are good; of several faults of one, the first counts.

    Attributes:
        at: (E,) number of each entry in the file.
        good: (E,) entries without a fault so far.
    """

    def __init__(self, at: Ints, faults: Faults) -> None:
        self.at = at
        self.faults = faults
        self.good = np.ones(len(at), np.bool_)

    def refuse(self, bad: Bools, reason: str, say: Callable[[int], str]) -> None:
        """Mark entries that can't be used.

        Args:
            bad: (E,) those with the fault.
            reason: see ``Faults.found``.
            say: what a row has, and what was expected.

        Raises:
            DataError: if faults are not to be skipped.
        """
        rows = np.flatnonzero(bad & self.good)
        if len(rows):
            self.faults.found(reason, self.at[rows], say(int(rows[0])))
            self.good[rows] = False

    def leave_out(self, unasked: Bools, reason: str) -> None:
        """Mark entries that aren't wrong, but about nothing that is asked for."""
        rows = np.flatnonzero(unasked & self.good)
        if len(rows):
            self.faults.leave_out(reason, len(rows))
            self.good[rows] = False

    def known(self, found: Ints, what: str, say: Callable[[int], str]) -> Ints:
        """Leave out entries about what is in no clip of the dataset, refuse those about what it doesn't have.

        Args:
            found: (E,) row of the frame or video, else ``UNKNOWN`` or ``IN_NO_CLIP``.
            what: ``frame`` or ``video``.
            say: which one a row is about, and what the dataset has.
        """
        self.leave_out(found == IN_NO_CLIP, f"{what} in no clip")
        self.refuse(
            found < 0,
            f"unknown {what}",
            lambda row: f"unknown {what} {say(row)} (is the file of another dataset or split?)",
        )
        return found

    def frames(self, content: Content, numbers: Ints) -> Ints:
        """Return the (E,) frame of each frame number; others than the dataset's are refused."""
        known = content.ids.frames
        span = f"{min(known)} to {max(known)}" if known else "none"
        found = content.frame_rows(numbers)
        return self.known(found, "frame", lambda row: f"number {numbers[row]}; the dataset has {span}")

    def positions(self, content: Content, video: Ints, index: Ints) -> Ints:
        """Return the (E,) frame at each position, from 0, in videos of the dataset; others are refused."""

        def say(row: int) -> str:
            name, length = content.frames.videos[video[row]], content.video_lengths[video[row]]
            return f"{index[row] + 1} (counted from 1) of video '{name}', which has {length}"

        return self.known(content.position_rows(video, index), "frame", say)

    def videos(self, content: Content, numbers: Ints) -> Ints:
        """Return the (E,) video of each video number; others than the dataset's are refused."""
        listed = _listed(content.ids.videos)
        found = content.video_rows(numbers)
        return self.known(found, "video", lambda row: f"number {numbers[row]}; the dataset has {listed}")

    def classes(self, content: Content, numbers: Ints) -> Ints:
        """Return the (E,) class id of each class number; those of no class are refused."""
        class_ids = content.class_ids(numbers)
        listed = f"{_listed(content.ids.classes)}, and {NO_CLASS} stands for none"
        self.refuse(
            class_ids < 0,
            "unknown class",
            lambda row: f"unknown class {numbers[row]}; the dataset has {listed}",
        )
        return class_ids


@dataclass(frozen=True)
class Entries:
    """E entries, looked up in the dataset; those that are not ``rows.good`` may hold anything.

    Attributes:
        rows: which are good so far.
        frame: (E,) int64 row of the dataset's frames.
        class_ids: (E,) int64 in [0, C].
        boxes: (E, 4) float64 x1, y1, x2, y2, ends inclusive.
        scores: (E,) float64.
        tracks: (E,) int64, -1 where unknown.
        masks: or None where the file has none.
        thin: whether boxes, or (E,) which, may be thinner than a pixel, as where a file says width
            and height.
    """

    rows: Rows
    frame: Ints
    class_ids: Ints
    boxes: Doubles
    scores: Doubles
    tracks: Ints
    masks: SizedMasks | None = None
    thin: bool | Bools = True

    def detections(self, content: Content, name: str, count: int) -> tuple[Detections, Report]:
        """Check the entries and put them in the order of the frames.

        Args:
            content: of the dataset.
            name: of the format.
            count: entries of the file, those included that are refused already.

        Raises:
            DataError: naming the first entry with a fault, unless faults are skipped: numbers that are not
                finite, boxes that are inverted or outside the frame, masks that are broken or of another
                size, tracks that are twice in a frame.
        """
        sizes = content.sizes(self.frame)
        if self.masks is not None:
            self._check_masks(self.masks, sizes)
        beyond = self._check_boxes(content, sizes)
        self._check_repeats()
        boxes = self.boxes
        if content.out_of_frame == "clip":
            boxes = np.clip(boxes, 0, np.tile(sizes[:, ::-1] - 1, 2))
        good = np.flatnonzero(self.rows.good)
        # Within a frame the file's order stays: metrics take equal scores in it.
        good = good[np.argsort(self.frame[good], kind="stable")]
        counts = None if self.masks is None else self.masks.counts
        found = Detections(
            content.frames,
            self.frame[good],
            boxes[good],
            self.class_ids[good],
            self.scores[good],
            self.tracks[good],
            content.classes,
            None if counts is None else tuple(counts[row] or b"" for row in good.tolist()),
        )
        outside = good[(found.scores < 0) | (found.scores > 1)]
        first = ""
        if len(outside):
            row = int(outside.min())
            first = f"{self.rows.faults.where(int(self.rows.at[row]))}: score {self.scores[row]:g}"
        dropped = dict(self.rows.faults.dropped)
        reaching = int(beyond[good].sum())
        return found, Report(name, count, len(found), dropped, len(outside), first, reaching)

    def _check_boxes(self, content: Content, sizes: Ints) -> Bools:
        """Refuse boxes that are no boxes, and return (E,) those that reach out of their frame."""
        refuse, boxes = self.rows.refuse, self.boxes
        (x1, y1, x2, y2), (height, width) = boxes.T, sizes.T
        refuse(
            ~((np.abs(boxes) <= FARTHEST).all(axis=1) & np.isfinite(self.scores)),
            "not a number",
            lambda row: (
                f"box {boxes[row].tolist()} with score {self.scores[row]}; expected finite numbers, "
                f"and pixels within {FARTHEST:g} of the frame"
            ),
        )
        refuse(
            (x2 < x1 - self.thin) | (y2 < y1 - self.thin),
            "inverted box",
            lambda row: (
                f"box {boxes[row].tolist()}; expected x1 <= x2 and y1 <= y2, the last pixels inside"
                + (" (no negative width or height)" if self.thin is True else "")
            ),
        )
        beyond: Bools = (
            (np.minimum(x1, y1) < -MARGIN) | (x2 > width - 1 + MARGIN) | (y2 > height - 1 + MARGIN)
        )
        if content.out_of_frame == "refuse":
            refuse(
                beyond,
                "box outside the frame",
                lambda row: (
                    f"box {boxes[row].tolist()} reaches out of its frame of {width[row]} x {height[row]} "
                    "pixels; expected pixels of the original frame, cut at its edges"
                ),
            )
        if content.out_of_frame == "clip":
            nothing = (np.maximum(x1, 0) > np.minimum(x2, width - 1)) | (
                np.maximum(y1, 0) > np.minimum(y2, height - 1)
            )
            self.rows.leave_out(beyond & nothing, "box wholly outside the frame")
        return beyond

    def _check_repeats(self) -> None:
        """Refuse tracks that are in a frame more than once for a class."""
        # A file that was written twice, or joined of parts that overlap, would double every detection.
        tracked = np.flatnonzero(self.rows.good & (self.tracks >= 0))
        keys = np.stack([self.frame[tracked], self.tracks[tracked], self.class_ids[tracked]])
        order = np.lexsort(keys[::-1])
        again = (np.diff(keys[:, order], axis=1) == 0).all(axis=0)
        repeated = np.zeros(len(self.frame), np.bool_)
        repeated[tracked[order[1:][again]]] = True
        self.rows.refuse(
            repeated,
            "repeated track",
            lambda row: (
                f"track {self.tracks[row]} is in this frame already; expected each track once a frame "
                "and class. Is part of the file there twice?"
            ),
        )

    def _check_masks(self, masks: SizedMasks, sizes: Ints) -> None:
        self.rows.refuse(
            masks.missing,
            "no mask",
            lambda row: "no segmentation, though other entries have one; expected all or none",
        )
        self.rows.refuse(
            (masks.sizes != sizes).any(axis=1),
            "mask of another size",
            lambda row: f"mask of {_size(masks.sizes[row])} pixels; expected the frame's {_size(sizes[row])}",
        )
        self.rows.refuse(
            masks.broken,
            "broken mask",
            lambda row: (
                f"the run lengths of the mask don't add up to {_size(sizes[row])} pixels; expected COCO's"
            ),
        )


def _size(size: Ints) -> str:
    return f"{size[1]} x {size[0]}"


def _listed(numbers: Mapping[int, object], most: int = 6) -> str:
    """Return the first few numbers and the last, in order."""
    known = sorted(numbers)
    return ", ".join(map(str, known[:most])) + (f", ... {known[-1]}" if len(known) > most else "")
