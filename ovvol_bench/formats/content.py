"""Content of a dataset that entries of a file may be about, found by the numbers that files use."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.data.base import Dataset, FileIds, OutOfFrame
from ovvol_bench.detections import Frames
from ovvol_bench.errors import DataError
from ovvol_bench.types import ClipInfo

NO_CLASS = -1  # number of a detection without a class, in every format: no dataset's class has it
UNKNOWN = -1  # in place of a row: the dataset has no such video or frame
IN_NO_CLIP = -2  # in place of a row: the dataset has it, but in no clip, as frames after the last full clip


@dataclass(frozen=True)
class Content:
    """A dataset's frames, classes and their numbers.

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
    def of(cls, dataset: Dataset) -> Content:
        """Return all content of a dataset."""
        return cls.of_clips(dataset, [dataset.info(index) for index in range(len(dataset))])

    @classmethod
    def of_clips(cls, dataset: Dataset, infos: Sequence[ClipInfo]) -> Content:
        """Return the content of some clips of a dataset."""
        return cls(Frames.of(infos), dataset.file_ids(), dataset.vocabulary.names, dataset.out_of_frame)

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
