"""Entries of a file as columns, looked up in a dataset and checked, and the detections made of them.

`Content` is what entries may be about. A fault is refused with one message, or the entry is left out and
counted by reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from ovvol_bench.arrays import Bools, Doubles, Ints
from ovvol_bench.data.base import Dataset, FileIds, OutOfFrame
from ovvol_bench.detections import Detections, Frames
from ovvol_bench.errors import DataError
from ovvol_bench.masks import SizedMasks
from ovvol_bench.types import ClipInfo

NO_CLASS = -1  # number of a detection without a class, in every format: no dataset's class has it
UNKNOWN = -1  # in place of a row: the dataset has no such video or frame
IN_NO_CLIP = -2  # in place of a row: the dataset has it, but in no clip, as frames after the last full clip
MARGIN = 1.0  # pixels that a box may reach over the frame: programs differ by one in where a frame ends
FARTHEST = 1e9  # pixels: the areas of boxes that reach farther are beyond single precision

OnError = Literal["fail", "skip"]


@dataclass(frozen=True)
class Content:
    """Frames and classes of a dataset, and their numbers in files.

    Attributes:
        frames: those of the dataset's clips.
        ids: the numbers that files have for videos, frames and classes.
        names: (C + 1) class names by id; position 0 is no class.
        out_of_frame: what becomes of detections' boxes that reach out of their frame.
    """

    frames: Frames
    ids: FileIds
    names: tuple[str, ...]
    out_of_frame: OutOfFrame = "keep"

    @classmethod
    def of(cls, dataset: Dataset, infos: Sequence[ClipInfo] | None = None) -> Content:
        """Return the content of some clips of a dataset, by default of all."""
        chosen = [dataset.info(index) for index in range(len(dataset))] if infos is None else infos
        return cls(Frames.of(chosen), dataset.file_ids(), dataset.vocabulary.names, dataset.out_of_frame)

    @property
    def classes(self) -> int:
        """Number of foreground classes C."""
        return len(self.names) - 1

    def frame_rows(self, numbers: Ints) -> Ints:
        """Return the (E,) row of ``frames`` of each frame number, else ``UNKNOWN`` or ``IN_NO_CLIP``."""
        return looked_up(self._row_of_frame, numbers)

    def position_rows(self, video: Ints, index: Ints) -> Ints:
        """Return the (E,) row of ``frames`` at positions of videos, else ``UNKNOWN`` or ``IN_NO_CLIP``."""
        rows = self.frames.rows(video, index)
        # Frames of the dataset in no clip are few: only those that weren't found are looked up.
        missing = np.flatnonzero(rows < 0) if len(self.frames) else np.zeros(0, np.int64)
        videos, known = self.frames.videos, set(self.ids.frames.values()) if len(missing) else set()
        for row in missing.tolist():
            if (videos[video[row]], int(index[row])) in known:
                rows[row] = IN_NO_CLIP
        return rows

    def video_rows(self, numbers: Ints) -> Ints:
        """Return the (E,) position of the video of each number, else ``UNKNOWN`` or ``IN_NO_CLIP``."""
        known = self.frames.video_row
        return looked_up({n: known.get(name, IN_NO_CLIP) for n, name in self.ids.videos.items()}, numbers)

    @cached_property
    def row_of_name(self) -> dict[str, int]:
        """Position of each of the dataset's videos by name, ``IN_NO_CLIP`` for those without a clip."""
        return dict.fromkeys(self.ids.videos.values(), IN_NO_CLIP) | self.frames.video_row

    def class_ids(self, numbers: Ints) -> Ints:
        """Return the (E,) class id of each class number, 0 for ``NO_CLASS``, -1 where there is none."""
        return looked_up({NO_CLASS: 0, **self.ids.classes}, numbers)

    def sizes(self, rows: Ints) -> Ints:
        """Return the (E, 2) (height, width) of frames, 1 x 1 where a row is none."""
        if not len(self.frames):
            return np.ones((len(rows), 2), np.int64)
        sizes = self.frames.sizes[self.frames.video[rows]]
        return np.where((rows < 0)[:, None], 1, sizes)

    @cached_property
    def frame_numbers(self) -> Ints:
        """Number of each frame, (F,).

        Raises:
            DataError: if a frame has none.
        """
        return _numbers(self._row_of_frame, len(self.frames), self.frames.name)

    @cached_property
    def video_numbers(self) -> Ints:
        """Number of each video, (V,).

        Raises:
            DataError: if a video has none.
        """
        videos = self.frames.videos
        table = {number: self.frames.video_row.get(name, -1) for number, name in self.ids.videos.items()}
        return _numbers(table, len(videos), lambda row: f"video '{videos[row]}'")

    @cached_property
    def class_numbers(self) -> Ints:
        """Number of each class, (C + 1,), ``NO_CLASS`` at 0.

        Raises:
            DataError: if a class has none.
        """
        table = {NO_CLASS: 0, **self.ids.classes}
        return _numbers(table, self.classes + 1, lambda row: f"class '{self.names[row]}'")

    @cached_property
    def video_lengths(self) -> Ints:
        """Frames of each video, (V,), up to the last one that the dataset has."""
        lengths = np.zeros(len(self.frames.videos), np.int64)
        np.maximum.at(lengths, self.frames.video, self.frames.index + 1)
        return lengths

    @cached_property
    def _row_of_frame(self) -> dict[int, int]:
        known = self.frames.video_row
        named = ((number, known.get(name, -1), index) for number, (name, index) in self.ids.frames.items())
        numbers, videos, indices = np.array(list(named), np.int64).reshape(-1, 3).T
        rows = np.where(videos < 0, IN_NO_CLIP, self.frames.rows(videos, indices))
        rows[rows < 0] = IN_NO_CLIP
        return dict(zip(numbers.tolist(), rows.tolist(), strict=True))


def looked_up(table: Mapping[int, int], numbers: Ints) -> Ints:
    """Return the (E,) value that a table has for each number, ``UNKNOWN`` where it has none."""
    if not table:
        return np.full(len(numbers), UNKNOWN)
    keys, values = np.array(sorted(table.items()), np.int64).T
    place = np.minimum(np.searchsorted(keys, numbers), len(keys) - 1)
    return np.where(keys[place] == numbers, values[place], UNKNOWN)


def _numbers(table: Mapping[int, int], count: int, name: Callable[[int], str]) -> Ints:
    """Return the inverse of a table, which must reach every row."""
    numbers, found = np.zeros(count, np.int64), np.zeros(count, np.bool_)
    keys, rows = np.array(list(table.items()), np.int64).reshape(-1, 2).T
    numbers[rows[rows >= 0]], found[rows[rows >= 0]] = keys[rows >= 0], True
    if not found.all():
        raise DataError(
            f"the dataset has no number for {name(int(np.argmin(found)))}, so no file can name it"
        )
    return numbers


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

    def __init__(
        self, where: Callable[[int], str], on_error: OnError, dropped: dict[str, int] | None = None
    ) -> None:
        self.where, self.on_error = where, on_error
        self.dropped = {} if dropped is None else dropped

    def of(self, where: Callable[[int], str]) -> Faults:
        """Return the faults of another list of the same file, counted together."""
        return Faults(where, self.on_error, self.dropped)

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
        self.at, self.faults = at, faults
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
        known, found = content.ids.frames, content.frame_rows(numbers)
        span = f"{min(known)} to {max(known)}" if known else "none"
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
        clipped = content.out_of_frame == "clip"
        boxes = np.clip(self.boxes, 0, np.tile(sizes[:, ::-1] - 1, 2)) if clipped else self.boxes
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
