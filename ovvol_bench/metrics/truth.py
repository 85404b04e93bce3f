"""Ground truth of a dataset's clips as columns, made once for everything scored against it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of, spans
from ovvol_bench.errors import DataError
from ovvol_bench.masks import RleMasks
from ovvol_bench.metrics.boxes import box_areas, checked
from ovvol_bench.predictions import own_frames
from ovvol_bench.types import ClipInfo, FrameRows, FrameTable, FrameTruth


@dataclass(frozen=True)
class TruthTable:
    """M true objects in F frames of L clips, clip by clip and frame by frame.

    Attributes:
        infos: (L,) the clips' own frames, see ``own_frames``.
        counts: (F,) int64, objects of each frame.
        boxes: (M, 4) float32, pixels of the original frame.
        classes: (M,) int64.
        tracks: (M,) int64, unique within the video, -1 where unknown.
        generated: (M,) bool.
        motion: (M,) float32 motion IoU, NaN where unknown.
    """

    infos: tuple[ClipInfo, ...]
    counts: Ints
    boxes: Floats
    classes: Ints
    tracks: Ints
    generated: Bools
    motion: Floats

    @classmethod
    def of(cls, infos: Sequence[ClipInfo]) -> TruthTable:
        """The columns of clips; one without truth counts as one without objects.

        Raises:
            DataError: if a clip's truth has another number of frames, or a box is inverted.
        """
        own = tuple(map(own_frames, infos))
        table = _common_table(own)
        if table is not None:
            return cls._of_rows(own, table)
        frames = [frame for info in own for frame in _frames_of(info)]
        return cls(
            infos=own,
            counts=np.array([len(frame) for frame in frames], np.int64),
            boxes=checked(_joined([frame.boxes for frame in frames], np.float32), "truth", thin=True),
            classes=_joined([frame.class_ids for frame in frames], np.int64),
            tracks=_joined([frame.track_ids for frame in frames], np.int64),
            generated=_joined([frame.generated for frame in frames], np.bool_),
            motion=_joined([frame.motion_iou for frame in frames], np.float32),
        )

    @classmethod
    def _of_rows(cls, own: tuple[ClipInfo, ...], table: FrameTable) -> TruthTable:
        """The columns of clips whose truth is in one table."""
        frames = np.fromiter(chain.from_iterable(map(_rows_of, own)), np.int64)
        counts = np.diff(table.offsets)[frames]
        objects = spans(table.offsets[frames], counts)
        return cls(
            infos=own,
            counts=counts,
            boxes=checked(table.boxes[objects], "truth", thin=True),
            classes=table.class_ids[objects],
            tracks=table.track_ids[objects],
            generated=table.generated[objects],
            motion=table.motion_iou[objects],
        )

    def __len__(self) -> int:
        return len(self.infos)

    @cached_property
    def row(self) -> dict[str, int]:
        """The position of each clip, by id."""
        return {info.id: position for position, info in enumerate(self.infos)}

    @cached_property
    def bare(self) -> tuple[ClipInfo, ...]:
        """The clips without truth."""
        return tuple(info for info in self.infos if info.truth is None)

    @cached_property
    def videos(self) -> tuple[str, ...]:
        """(L,) the video of each clip."""
        return tuple(info.video for info in self.infos)

    @cached_property
    def frame_counts(self) -> Ints:
        """(L,) int64, frames of each clip."""
        return np.array([len(info.frame_indices) for info in self.infos], np.int64)

    @cached_property
    def frame_indices(self) -> Ints:
        """(F,) int64, positions in the video."""
        return np.array([index for info in self.infos for index in info.frame_indices], np.int64)

    @cached_property
    def frame_sizes(self) -> Ints:
        """(L, 2) int64, (height, width) of the original frames."""
        return np.array([info.frame_size for info in self.infos], np.int64).reshape(-1, 2)

    @cached_property
    def frame(self) -> Ints:
        """(M,) int64 in [0, F), the frame of each object."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    @cached_property
    def truths(self) -> tuple[FrameTruth, ...]:
        """(F,) the truth of every frame, masks included."""
        return tuple(frame for info in self.infos for frame in _frames_of(info))

    @cached_property
    def areas(self) -> npt.NDArray[np.float64]:
        """(M,) square pixels as annotations say, NaN where they say nothing."""
        table = _common_table(self.infos)
        if table is None:
            parts = [np.full(len(t), np.nan) if t.areas is None else t.areas for t in self.truths]
            return np.concatenate([np.zeros(0), *parts])
        if table.areas is None:
            return np.full(len(self.boxes), np.nan)
        frames = np.concatenate([np.zeros(0, np.int64), *(_rows_of(info) for info in self.infos)])
        return table.areas[spans(table.offsets[frames], np.diff(table.offsets)[frames])]

    @cached_property
    def image_ids(self) -> Ints:
        """(F,) number of each frame in its file; else from 1 in their order."""
        table = _common_table(self.infos)
        if table is None or table.image_ids is None:
            return np.arange(1, len(self.counts) + 1)
        return table.image_ids[np.fromiter(chain.from_iterable(map(_rows_of, self.infos)), np.int64)]

    @cached_property
    def crowds(self) -> TruthTable:
        """The regions of the same frames that stand for crowds."""
        return TruthTable.of([replace(info, truth=_crowds_of(info)) for info in self.infos])

    def clip_of(self, frame: int) -> ClipInfo:
        """The clip that a frame in [0, F) is in."""
        return self.infos[int(self._clip[frame])]

    @cached_property
    def _clip(self) -> Ints:
        """(F,) the clip of each frame."""
        return np.repeat(np.arange(len(self)), self.frame_counts)

    def runs(self, frame: int) -> RleMasks:
        """The masks of the objects of a frame.

        Raises:
            DataError: if there are none, or they are of another number or size.
        """
        info, truth = self.clip_of(frame), self.truths[frame]
        where = f"clip '{info.id}', frame {self.frame_indices[frame]}"
        masks = truth.runs if len(truth) else RleMasks(info.frame_size, ())
        if masks is None:
            raise no_masks(where)
        check_shape((len(masks), *masks.size), (len(truth), *info.frame_size), where)
        return masks

    @cached_property
    def track_keys(self) -> Ints:
        """(M,) int64, a number for each track that no other video uses; -1 where unknown."""
        row = {name: number for number, name in enumerate(dict.fromkeys(self.videos))}
        video = np.array([row[name] for name in self.videos], np.int64)
        keys = (
            np.repeat(video, self.frame_counts)[self.frame] * (self.tracks.max(initial=0) + 1) + self.tracks
        )
        return np.where(self.tracks < 0, -1, keys)

    @cached_property
    def relative_sizes(self) -> npt.NDArray[np.float64]:
        """(M,) square root of the share of its frame that each box takes, ends inclusive."""
        areas = np.repeat(self.frame_sizes.prod(axis=1), self.frame_counts)[self.frame]
        sizes: npt.NDArray[np.float64] = np.sqrt(box_areas(self.boxes, offset=1) / areas)
        return sizes

    def select(self, clips: Ints) -> TruthTable:
        """The clips at the given positions, in that order."""
        if np.array_equal(clips, np.arange(len(self))):
            return self
        frames = spans(offsets_of(self.frame_counts)[clips], self.frame_counts[clips])
        objects = spans(offsets_of(self.counts)[frames], self.counts[frames])
        return TruthTable(
            infos=tuple(self.infos[clip] for clip in clips),
            counts=self.counts[frames],
            boxes=self.boxes[objects],
            classes=self.classes[objects],
            tracks=self.tracks[objects],
            generated=self.generated[objects],
            motion=self.motion[objects],
        )


def _common_table(infos: Sequence[ClipInfo]) -> FrameTable | None:
    """The table that the truth of all clips is in; None if there is no such."""
    truths = [_frames_of(info) for info in infos]
    table = truths[0].table if truths and isinstance(truths[0], FrameRows) else None
    same = all(isinstance(truth, FrameRows) and truth.table is table for truth in truths)
    return table if same else None


def _rows_of(info: ClipInfo) -> Sequence[int]:
    """The frames of a table that a clip's truth is in."""
    return info.truth.rows if isinstance(info.truth, FrameRows) else range(0)


def _crowds_of(info: ClipInfo) -> Sequence[FrameTruth] | None:
    if not isinstance(info.truth, FrameRows):
        return None if info.truth is None else [frame.crowds or _NOTHING for frame in info.truth]
    crowds = info.truth.table.crowds
    return None if crowds is None else FrameRows(crowds, info.truth.rows)


def no_masks(where: str) -> DataError:
    """Make the error for a frame whose objects have no masks."""
    return DataError(f"{where}: the truth has no masks; expected one for every object")


def check_shape(shape: tuple[int, ...], expected: tuple[int, ...], where: str) -> None:
    """Refuse masks of another number or size than a frame's objects.

    Raises:
        DataError: if the shapes differ.
    """
    if shape != expected:
        raise DataError(
            f"{where}: true masks of shape {shape}; expected {expected}: objects, height, width of the frame"
        )


def _frames_of(info: ClipInfo) -> Sequence[FrameTruth]:
    if info.truth is None:
        return [_NOTHING] * len(info.frame_indices)
    if len(info.truth) != len(info.frame_indices):
        raise DataError(
            f"clip '{info.id}': truth of {len(info.truth)} frames; expected {len(info.frame_indices)}"
        )
    return info.truth


def _joined(parts: Sequence[npt.NDArray[Any]], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    return np.concatenate(parts, dtype=dtype, casting="same_kind") if parts else np.zeros(0, dtype)


_NOTHING = FrameTruth(
    boxes=np.zeros((0, 4), np.float32),
    class_ids=np.zeros(0, np.int64),
    track_ids=np.zeros(0, np.int64),
    occluded=np.zeros(0, np.bool_),
    generated=np.zeros(0, np.bool_),
    motion_iou=np.zeros(0, np.float32),
)
