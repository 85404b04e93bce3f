"""Predictions as columns: the localizations of many clips in a few flat arrays.

Metrics read these columns, and ``runs.predictions`` keeps them on disk. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of, spans
from ovvol_bench.errors import ContractError, DataError
from ovvol_bench.types import ClipInfo, FrameRows, Localization


@dataclass(frozen=True)
class ClipPrediction:
    """Localization of one clip.

    Attributes:
        info: the clip's identity; truth may be missing, it is never stored.
        input_size: (height, width) of the resized frames that the models saw.
        localization: of all frames of the clip.
    """

    info: ClipInfo
    input_size: tuple[int, int]
    localization: Localization


FLAT_COLUMNS = {
    "frame_indices": "frames",
    "boxes": "boxes",
    "present": "boxes",
    "probabilities": "segments",
    "slot_map": "patches",
    "segment_of_slot": "slots",
    "soft": "shares",
}
"""The flat columns of ``Predictions``, and what each has one row for."""


@dataclass(frozen=True)
class Predictions:
    """Localizations of L clips. The rows of a clip lie together, in the order of the clips.

    Frames that a clip repeats from an earlier one (``ClipInfo.context``), and frames that could not be read
    (``ClipInfo.unread``), are left out.

    Attributes:
        clip_ids: ids of the clips.
        videos: the video of each clip.
        frame_counts: (L,) int64, frames T of each clip.
        segment_counts: (L,) int64, segments N.
        slot_counts: (L,) int64, slots K.
        grids: (L, 2) int64, patches (rows, columns) of a frame.
        frame_sizes: (L, 2) int64, (height, width) of the original frames.
        input_sizes: (L, 2) int64, (height, width) of the frames that the models saw.
        frame_indices: (sum of T,) int64, positions in the video, from 0.
        boxes: (sum of T * N, 4) float32, by clip, frame, segment; as ``Localization.boxes``.
        present: (sum of T * N,) bool.
        probabilities: (sum of N, C + 1) float32.
        slot_map: (sum of T * rows * columns,) int16.
        segment_of_slot: (sum of K,) int16.
        soft_counts: (L,) int64, K of clips whose soft masks were kept, else 0.
        soft: (sum of T * K * rows * columns,) uint8, of those clips; as ``Localization.soft``.
    """

    clip_ids: tuple[str, ...]
    videos: tuple[str, ...]
    frame_counts: Ints
    segment_counts: Ints
    slot_counts: Ints
    grids: Ints
    frame_sizes: Ints
    input_sizes: Ints
    frame_indices: Ints
    boxes: Floats
    present: Bools
    probabilities: Floats
    slot_map: npt.NDArray[np.int16]
    segment_of_slot: npt.NDArray[np.int16]
    soft_counts: Ints
    soft: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.clip_ids)

    def __iter__(self) -> Iterator[ClipPrediction]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, index: int) -> ClipPrediction:
        clip = self.select(np.array([index]))
        frames, segments = int(clip.frame_counts[0]), int(clip.segment_counts[0])
        input_size = (int(clip.input_sizes[0, 0]), int(clip.input_sizes[0, 1]))
        localization = Localization(
            clip.boxes.reshape(frames, segments, 4),
            clip.present.reshape(frames, segments),
            clip.probabilities,
            clip.slot_map.reshape(frames, *clip.grids[0]),
            clip.segment_of_slot,
            input_size,
            clip.soft.reshape(frames, -1, *clip.grids[0]) if len(clip.soft) else None,
        )
        return ClipPrediction(next(clip.identities()), input_size, localization)

    def identities(self) -> Iterator[ClipInfo]:
        """Yield the clips without truth, in order."""
        indices, ends = self.frame_indices.tolist(), offsets_of(self.frame_counts).tolist()
        for row, (clip, video) in enumerate(zip(self.clip_ids, self.videos, strict=True)):
            height, width = self.frame_sizes[row].tolist()
            yield ClipInfo(clip, video, tuple(indices[ends[row] : ends[row + 1]]), (height, width))

    @property
    def classes(self) -> int:
        """Number of foreground classes C."""
        return int(self.probabilities.shape[1]) - 1

    @property
    def segment_of_box(self) -> Ints:
        """(sum of T * N,) int64, the row of ``probabilities`` that each box belongs to."""
        first = np.repeat(offsets_of(self.segment_counts)[:-1], self.frame_counts)
        return spans(first, np.repeat(self.segment_counts, self.frame_counts))

    def counts(self, unit: str) -> Ints:
        """(L,) int64: rows that each clip has in the flat columns of a unit of ``FLAT_COLUMNS``."""
        return self._rows[unit][0]

    @cached_property
    def _rows(self) -> dict[str, tuple[Ints, Ints]]:
        """(L,) rows of each clip by unit, and (L + 1,) where they start."""
        patches = self.frame_counts * self.grids.prod(axis=1)
        rows: dict[str, Ints] = {
            "frames": self.frame_counts,
            "boxes": self.frame_counts * self.segment_counts,
            "segments": self.segment_counts,
            "patches": patches,
            "slots": self.slot_counts,
            "shares": patches * self.soft_counts,
        }
        return {unit: (counts, offsets_of(counts)) for unit, counts in rows.items()}

    def select(self, clips: Ints) -> Predictions:
        """Return the clips at the given positions, in that order."""
        columns: dict[str, object] = {}
        for field in fields(self):
            column = getattr(self, field.name)
            if field.name in FLAT_COLUMNS:
                counts, starts = self._rows[FLAT_COLUMNS[field.name]]
                columns[field.name] = column[spans(starts[clips], counts[clips])]
            elif isinstance(column, tuple):
                columns[field.name] = tuple(column[clip] for clip in clips)
            else:
                columns[field.name] = column[clips]
        return Predictions(**columns)  # type: ignore[arg-type]

    def without_masks(self) -> Predictions:
        """Leave out slots and their maps, which take most of the space: for metrics of boxes."""
        return replace(
            self,
            slot_counts=np.zeros_like(self.slot_counts),
            grids=np.zeros_like(self.grids),
            slot_map=np.zeros(0, np.int16),
            segment_of_slot=np.zeros(0, np.int16),
            soft_counts=np.zeros_like(self.slot_counts),
            soft=np.zeros(0, np.uint8),
        )

    def in_order(self) -> Predictions:
        """Sorted by video, first frame and clip id, whatever order the clips came in.

        A clip that is there several times with the same content is kept once.

        Raises:
            DataError: if one clip id comes with different contents.
        """
        if not len(self):
            return self
        starts = self.frame_indices[offsets_of(self.frame_counts)[:-1]]
        keys = list(zip(self.videos, starts.tolist(), self.clip_ids, strict=True))
        order = sorted(range(len(self)), key=keys.__getitem__)
        if order != list(range(len(self))):
            return self.select(np.array(order)).in_order()
        return self._without_repeats()

    def _without_repeats(self) -> Predictions:
        first: dict[str, int] = {}
        for position, clip in enumerate(self.clip_ids):
            earlier = first.setdefault(clip, position)
            if earlier != position and not same_content(self[earlier], self[position]):
                raise DataError(
                    f"clip '{clip}' was predicted twice with different results; expected one result "
                    "a clip. Delete the shards of the run that doesn't belong here."
                )
        return self if len(first) == len(self) else self.select(np.array(list(first.values())))


def pack(clips: Sequence[ClipPrediction]) -> Predictions:
    """Lay clips end to end; context frames and frames that could not be read are left out.

    Raises:
        ContractError: if the arrays of a localization don't fit together.
        DataError: if the clips have different numbers of classes.
    """
    own = [own_part(clip) for clip in clips]
    for clip in own:
        _check_shapes(clip)
    found = [clip.localization for clip in own]
    classes = {each.probabilities.shape[1] for each in found}
    if len(classes) > 1:
        raise DataError(f"predictions over different vocabularies: {sorted(classes)} classes; expected one")
    width = classes.pop() if classes else 1
    infos = [clip.info for clip in own]
    return Predictions(
        clip_ids=tuple(info.id for info in infos),
        videos=tuple(info.video for info in infos),
        frame_counts=_column([len(info.frame_indices) for info in infos]),
        segment_counts=_column([len(each) for each in found]),
        slot_counts=_column([len(each.segment_of_slot) for each in found]),
        grids=_column([each.slot_map.shape[1:] for each in found], (2,)),
        frame_sizes=_column([info.frame_size for info in infos], (2,)),
        input_sizes=_column([clip.input_size for clip in own], (2,)),
        frame_indices=_flat([np.array(info.frame_indices) for info in infos], (), np.int64),
        boxes=_flat([each.boxes for each in found], (4,), np.float32),
        present=_flat([each.present for each in found], (), np.bool_),
        probabilities=_flat([each.probabilities for each in found], (width,), np.float32),
        slot_map=_flat([each.slot_map for each in found], (), np.int16),
        segment_of_slot=_flat([each.segment_of_slot for each in found], (), np.int16),
        soft_counts=_column([0 if each.soft is None else each.soft.shape[1] for each in found]),
        soft=_flat([each.soft for each in found if each.soft is not None], (), np.uint8),
    )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """Join the clips of several predictions, one after another.

    Raises:
        DataError: if the parts have different numbers of classes.
    """
    parts = [part for part in parts if len(part)]
    if not parts:
        return pack([])
    classes = sorted({part.classes for part in parts})
    if len(classes) > 1:
        raise DataError(
            f"predictions over different vocabularies: {classes} foreground classes; expected one"
        )
    columns: dict[str, object] = {}
    for field in fields(Predictions):
        values = [getattr(part, field.name) for part in parts]
        if isinstance(values[0], tuple):
            columns[field.name] = tuple(item for value in values for item in value)
        else:
            columns[field.name] = np.concatenate(values)
    return Predictions(**columns)  # type: ignore[arg-type]


def own_part(clip: ClipPrediction) -> ClipPrediction:
    """Cut context frames and frames that could not be read from a clip's info, truth and localization.

    A localization that lacks these frames already is taken as it is.

    Raises:
        ContractError: if the localization has neither all frames nor just the clip's own.
    """
    info, found = own_frames(clip.info), clip.localization
    total, own = len(clip.info.frame_indices), _own_places(clip.info)
    if len(found.boxes) not in (total, len(own)):
        raise ContractError(
            f"clip '{info.id}': localization of {len(found.boxes)} frames; expected {len(own)}, or {total} "
            "with its context and frames that could not be read"
        )
    if len(found.boxes) > len(own):
        soft = None if found.soft is None else found.soft[own]
        found = replace(
            found, boxes=found.boxes[own], present=found.present[own], slot_map=found.slot_map[own], soft=soft
        )
    return ClipPrediction(info, clip.input_size, found)


def own_frames(info: ClipInfo) -> ClipInfo:
    """Return a clip's info without context frames and frames that could not be read."""
    return _with_frames(info, _own_places(info)) if info.context or info.unread else info


def predicted_frames(info: ClipInfo, indices: Sequence[int]) -> ClipInfo:
    """Return a clip's info with its predicted frames only; with all of them if others have one, too.

    Args:
        info: of the clip.
        indices: of the predicted frames, positions in the video.
    """
    places = [place for place, index in enumerate(info.frame_indices) if index in indices]
    return _with_frames(info, places) if len(places) == len(indices) else info


def _with_frames(info: ClipInfo, places: Sequence[int]) -> ClipInfo:
    """Return a clip's info with the frames at some places of it only, ascending."""
    truth = info.truth
    if isinstance(truth, FrameRows):
        truth = FrameRows(truth.table, [truth.rows[place] for place in places])
    elif truth is not None:
        truth = tuple(truth[place] for place in places if place < len(truth))  # scoring refuses short ones
    indices = tuple(info.frame_indices[place] for place in places)
    return replace(info, frame_indices=indices, truth=truth, context=0, unread={})


def frame_name(video: str, index: int) -> str:
    """``VIDEO/INDEX``, what results call a frame."""
    return f"{video}/{index:06d}"


def _own_places(info: ClipInfo) -> list[int]:
    """Places in the clip of the frames that are reported and scored."""
    return [place for place in range(info.context, len(info.frame_indices)) if place not in info.unread]


def same_content(first: ClipPrediction, second: ClipPrediction) -> bool:
    """Tell whether two predictions are equal to the last bit, truth and kept soft masks aside."""
    one, other = first.localization, second.localization
    arrays = ("boxes", "present", "probabilities", "slot_map", "segment_of_slot")
    return (
        replace(first.info, truth=None) == replace(second.info, truth=None)
        and first.input_size == second.input_size
        and all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
    )


def _check_shapes(clip: ClipPrediction) -> None:
    found, frames = clip.localization, len(clip.info.frame_indices)
    if not frames:
        raise ContractError(f"clip '{clip.info.id}' has no frames of its own; expected at least one")
    segments, slots = len(found), len(found.segment_of_slot)
    expected = {
        "boxes": (frames, segments, 4),
        "present": (frames, segments),
        "probabilities": (segments, found.probabilities.shape[-1]),
        "slot_map": (frames, *found.slot_map.shape[1:3]),
        "segment_of_slot": (slots,),
    }
    if found.soft is not None:
        expected["soft"] = (frames, slots, *found.slot_map.shape[1:3])
    for name, shape in expected.items():
        got = getattr(found, name).shape
        if got != shape:
            raise ContractError(
                f"clip '{clip.info.id}': localization.{name} has shape {got}; expected {shape} "
                f"for {frames} frames and {segments} segments"
            )


def _column(values: Sequence[object], item: tuple[int, ...] = ()) -> Ints:
    return np.array(values, np.int64).reshape(len(values), *item)


def _flat(
    values: Sequence[npt.NDArray[Any]], item: tuple[int, ...], dtype: npt.DTypeLike
) -> npt.NDArray[Any]:
    parts = [np.zeros((0, *item), dtype), *(value.reshape(-1, *item) for value in values)]
    return np.concatenate(parts, dtype=dtype, casting="same_kind")
