"""Base of datasets with truth in columns: clips, their ids and truth, and a fingerprint."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import fields, replace
from functools import cached_property
from typing import Self

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints
from ovvol_bench.data.base import Dataset, FileIds, TrainingVideos
from ovvol_bench.data.cache import content_digest
from ovvol_bench.data.readers import FrameReader, read_clip
from ovvol_bench.data.sampling import TOO_SHORT, ClipSettings, ClipStart, plan_clips
from ovvol_bench.data.truth_index import TruthIndex
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Clip, ClipInfo, FrameRows, FrameTable


class IndexedVideos(Dataset):
    """Clips of the videos of an index.

    Args:
        vocabulary: that the index's classes refer to.
        clips: how clips are cut and resized.

    Attributes:
        index: truth of all videos.
        crowds: regions of the same frames that stand for crowds; None where the dataset has none.
        image_ids: (F,) numbers of the frames in their file, or None where they have none.
        annotated: whether there is truth at all.
    """

    index: TruthIndex
    crowds: TruthIndex | None = None
    image_ids: Ints | None = None
    annotated: bool = True

    def __init__(self, vocabulary: Vocabulary, clips: ClipSettings) -> None:
        self.vocabulary = vocabulary
        self._settings = clips

    @abstractmethod
    def frames(self, video: int, rows: Sequence[int]) -> FrameReader:
        """A reader of some frames of one video.

        Args:
            video: position in the index.
            rows: of the frames, positions in the index's frame columns.
        """

    @cached_property
    def skipped(self) -> Mapping[str, int]:  # type: ignore[override]  # read by others, set by nobody
        return {**self.index.skipped, **self._plan[1]}

    @cached_property
    def _plan(self) -> tuple[tuple[tuple[int, ClipStart], ...], dict[str, int]]:
        return plan_clips(self.index.lengths.tolist(), self._settings)

    @property
    def _clips(self) -> tuple[tuple[int, ClipStart], ...]:
        return self._plan[0]

    def __len__(self) -> int:
        return len(self._clips)

    def info(self, index: int) -> ClipInfo:
        """Describe a clip; its id is ``VIDEO/FRAME`` with the number of its first frame."""
        video, clip = self._clips[index]
        rows = self._rows(video, clip)
        numbers = self.index.frame_numbers[rows.start : rows.stop : rows.step].tolist()
        height, width = self.index.frame_sizes[video].tolist()
        name = str(self.index.videos[video])
        return ClipInfo(
            id=f"{name}/{numbers[0]:06d}",
            video=name,
            frame_indices=tuple(numbers),
            frame_size=(height, width),
            truth=FrameRows(self._truth, rows) if self.annotated else None,
            context=clip.context,
        )

    @cached_property
    def _truth(self) -> FrameTable:
        crowds = self.crowds.truth if self.crowds is not None and len(self.crowds.boxes) else None
        return replace(self.index.truth, crowds=crowds, image_ids=self.image_ids)

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        return self._settings.input_size(frame_size)

    def clip(self, index: int) -> Clip:
        info = self.info(index)
        video, clip = self._clips[index]
        reader = self.frames(video, self._rows(video, clip))
        size = self.input_size(info.frame_size)
        places = range(len(info.frame_indices))
        return read_clip(info, reader, places, size, self._settings.scale_at_decode)

    def file_ids(self) -> FileIds:
        """Number videos, frames and classes from 1."""
        names = self.index.videos.tolist()
        classes = range(1, len(self.vocabulary.classes) + 1)
        # frames in no clip have numbers too, so that no sampling shifts them
        return FileIds(
            dict(enumerate(names, 1)), dict(enumerate(self.places, 1)), {each: each for each in classes}
        )

    @property
    def places(self) -> list[tuple[str, int]]:
        """(F,) the video and the number of every frame, those in no clip too."""
        names = np.repeat(self.index.videos, self.index.lengths).tolist()
        return list(zip(names, self.index.frame_numbers.tolist(), strict=True))

    def frame_files(self) -> Sequence[str]:
        """Paths of the files that hold the frames, in order; they need not be there."""
        return ()

    def fingerprint(self) -> str:
        """Hash the truth in 32 hex digits, and the frames that are there in 32 more."""
        files = self.frame_files()
        frames = content_digest(len(files), files.__getitem__)
        return f"{self._truth_digest()}-{frames}" if frames else self._truth_digest()

    def _truth_digest(self) -> str:
        digest = hashlib.blake2b(repr((self.vocabulary.names, self._clips)).encode(), digest_size=16)
        digest.update("\n".join(self.index.videos).encode())
        # an empty table of crowds is left out: digests are older than crowds
        crowds = [self.crowds] if self.crowds is not None and len(self.crowds.boxes) else []
        for index in (self.index, *crowds):
            for field in fields(TruthIndex):
                if field.name != "videos":
                    digest.update(np.ascontiguousarray(getattr(index, field.name)).tobytes())
        return digest.hexdigest()

    def with_short_videos(self) -> Self:
        if TOO_SHORT not in self._plan[1]:
            return self
        whole = copy(self)
        whole._settings = replace(self._settings, keep_short=True)
        for name in ("skipped", "_plan"):
            whole.__dict__.pop(name, None)
        return whole

    def without_truth(self) -> Self:
        """The same videos without any object: little to send to other processes."""
        light = copy(self)
        light.__dict__.pop("_truth", None)
        light.crowds = None
        light.index = self.index.with_classes(np.zeros(len(self.vocabulary.names), np.int64))
        return light

    def _rows(self, video: int, clip: ClipStart) -> range:
        first, places = int(self.index.frame_offsets[video]), self._settings.positions(clip)
        return range(first + places.start, first + places.stop, places.step)


class IndexedTraining(TrainingVideos):
    """All frames of the videos of an index, to train on.

    Args:
        dataset: that reads them.
    """

    def __init__(self, dataset: IndexedVideos) -> None:
        self._dataset = dataset.without_truth()

    def __len__(self) -> int:
        return len(self._dataset.index.videos)

    def name(self, index: int) -> str:
        return str(self._dataset.index.videos[index])

    def length(self, index: int) -> int:
        return int(self._dataset.index.lengths[index])

    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        first = int(self._dataset.index.frame_offsets[index])
        rows = [first + position for position in positions]
        return self._dataset.frames(index, rows).stored(range(len(rows)))

    def fingerprint(self) -> str:
        """Hash of names, frame numbers and frames."""
        columns, files = self._dataset.index, self._dataset.frame_files()
        digest = hashlib.sha256("\n".join(columns.videos.tolist()).encode())
        digest.update(content_digest(len(files), files.__getitem__).encode())
        digest.update(columns.frame_offsets.tobytes())
        digest.update(columns.frame_numbers.tobytes())
        return digest.hexdigest()
