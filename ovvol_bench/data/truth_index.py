"""All truth of many videos as columns: quick to load, to choose from, and to share between processes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of, spans
from ovvol_bench.masks import RleMasks
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import FrameTable

UNKNOWN_CLASS = "objects of classes outside the vocabulary"
NO_AREA = "objects without area inside the frame"
CROWD = "objects that stand for a crowd"
REASONS = (UNKNOWN_CLASS, NO_AREA, CROWD)
"""Why objects are left out, in the order of ``TruthIndex.dropped``."""


@dataclass(frozen=True)
class TruthIndex:
    """V videos with F frames and M objects in all; offsets say where a video or frame begins.

    Attributes:
        videos: (V,) names.
        frame_offsets: (V + 1,) where a video's frames lie in the frame columns.
        frame_numbers: (F,) of the frames in their video.
        frame_sizes: (V, 2) height and width in pixels.
        object_offsets: (F + 1,) where a frame's objects lie in the object columns.
        boxes: (M, 4) float32, pixels, ends inclusive, inside the frame.
        class_ids: (M,) from 1.
        track_ids: (M,) unique within the video, -1 where unknown.
        occluded: (M,).
        generated: (M,) interpolated, not drawn.
        motion_iou: (M,) NaN where unknown.
        dropped: (V, 3) objects left out, by ``REASONS``.
        mask_runs: bytes of the run lengths of all masks, one after the other.
        mask_offsets: (M + 1,) where an object's run lengths begin; (0,) where there are no masks.
        areas: (M,) float64 square pixels as annotations say, NaN where unknown; (0,) where none says any.
    """

    videos: npt.NDArray[np.str_]
    frame_offsets: Ints
    frame_numbers: Ints
    frame_sizes: Ints
    object_offsets: Ints
    boxes: Floats
    class_ids: Ints
    track_ids: Ints
    occluded: Bools
    generated: Bools
    motion_iou: Floats
    dropped: Ints
    mask_runs: npt.NDArray[np.uint8]
    mask_offsets: Ints
    areas: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))

    @property
    def lengths(self) -> Ints:
        """(V,) frames of every video."""
        return np.diff(self.frame_offsets)

    @property
    def has_masks(self) -> bool:
        """Whether every object has a mask."""
        return len(self.mask_offsets) > 0

    @property
    def skipped(self) -> dict[str, int]:
        """Reason to count of objects left out."""
        counts = zip(REASONS, self.dropped.sum(axis=0).tolist(), strict=True)
        return {reason: count for reason, count in counts if count}

    @property
    def video_of_object(self) -> Ints:
        """(M,) position of the video that an object is in."""
        counts = np.diff(self.object_offsets[self.frame_offsets])
        return np.repeat(np.arange(len(self.videos), dtype=np.int64), counts)

    @cached_property
    def truth(self) -> FrameTable:
        """Objects of every frame, by its position in the frame columns."""
        return FrameTable(
            self.object_offsets,
            self.boxes,
            self.class_ids,
            self.track_ids,
            self.occluded,
            self.generated,
            self.motion_iou,
            self._masks if self.has_masks else None,
            self.areas if len(self.areas) == len(self.boxes) else None,
        )

    def with_classes(self, class_of: Ints) -> TruthIndex:
        """Give every object another class.

        Args:
            class_of: (C + 1,) new class of each class id; objects that get 0 are left out and counted.
        """
        classes = class_of[self.class_ids]
        unknown = np.bincount(self.video_of_object[classes == 0], minlength=len(self.videos))
        dropped = self.dropped.copy()
        dropped[:, REASONS.index(UNKNOWN_CLASS)] += unknown
        return replace(self, class_ids=classes, dropped=dropped)._of_objects(np.flatnonzero(classes))

    def of_videos(self, rows: Sequence[int] | Ints) -> TruthIndex:
        """The videos at the given positions, in that order."""
        chosen = np.asarray(rows, np.int64)
        frames = spans(self.frame_offsets[chosen], self.lengths[chosen])
        counts = np.diff(self.object_offsets)[frames]
        objects = spans(self.object_offsets[frames], counts)
        moved: dict[str, Any] = {
            "videos": self.videos[chosen],
            "frame_offsets": offsets_of(self.lengths[chosen]),
            "frame_numbers": self.frame_numbers[frames],
            "frame_sizes": self.frame_sizes[chosen],
            "object_offsets": offsets_of(counts),
            "dropped": self.dropped[chosen],
        }
        return replace(self, **moved, **self._object_columns(objects))

    def list_hash(self) -> str:
        """8 hex digits that lists of the same videos in the same order, of the same lengths, share."""
        pairs = list(zip(self.videos.tolist(), self.lengths.tolist(), strict=True))
        return hashlib.blake2b(repr(pairs).encode(), digest_size=4).hexdigest()

    def _of_objects(self, rows: Ints) -> TruthIndex:
        """Some of the objects, in order."""
        offsets = np.searchsorted(rows, self.object_offsets).astype(np.int64)
        return replace(self, object_offsets=offsets, **self._object_columns(rows))

    def _object_columns(self, rows: Ints) -> dict[str, Any]:
        if np.array_equal(rows, np.arange(len(self.boxes))):
            return {}
        names = ("boxes", "class_ids", "track_ids", "occluded", "generated", "motion_iou")
        columns = {name: getattr(self, name)[rows] for name in names}
        if len(self.areas):
            columns["areas"] = self.areas[rows]
        if not self.has_masks:
            return columns
        return {
            **columns,
            "mask_runs": self._runs_of(rows),
            "mask_offsets": offsets_of(np.diff(self.mask_offsets)[rows]),
        }

    def _runs_of(self, rows: Ints) -> npt.NDArray[np.uint8]:
        """``mask_runs`` of some objects; neighbours are copied together, for there can be gigabytes."""
        blocks = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        parts = [self.mask_runs[self.mask_offsets[b[0]] : self.mask_offsets[b[-1] + 1]] for b in blocks]
        return np.concatenate([np.zeros(0, np.uint8), *parts])

    def _masks(self, frame: int) -> RleMasks:
        video = int(np.searchsorted(self.frame_offsets, frame, side="right")) - 1
        height, width = self.frame_sizes[video].tolist()
        first, last = self.object_offsets[frame : frame + 2].tolist()
        ends = self.mask_offsets[first : last + 1].tolist()
        return RleMasks(
            (height, width), tuple(self.mask_runs[start:end].tobytes() for start, end in pairwise(ends))
        )


def mask_columns(masks: Sequence[bytes] | None) -> tuple[npt.NDArray[np.uint8], Ints]:
    """``mask_runs`` and ``mask_offsets`` of an index; None: there are no masks."""
    if masks is None:
        return np.zeros(0, np.uint8), np.zeros(0, np.int64)
    lengths = np.fromiter(map(len, masks), np.int64, len(masks))
    return np.frombuffer(b"".join(masks), np.uint8), offsets_of(lengths)


def describe(index: TruthIndex, vocabulary: Vocabulary) -> dict[str, int | str]:
    """What an index holds: videos and their list's hash, frames, objects by class, objects left out."""
    by_class = np.bincount(index.class_ids, minlength=len(vocabulary.names))
    return {
        "videos": len(index.videos),
        "hash of the list": index.list_hash(),
        "frames": len(index.frame_numbers),
        "frames without objects": int((np.diff(index.object_offsets) == 0).sum()),
        "objects": len(index.boxes),
        "objects with a mask": len(index.boxes) if index.has_masks else 0,
        "objects drawn by hand": int((~index.generated).sum()),
        "tracks": len(np.unique(_known_tracks(index), axis=0)),
        **{f"objects: {name}": int(n) for name, n in zip(vocabulary.names, by_class, strict=True) if n},
        **{f"left out: {reason}": count for reason, count in index.skipped.items()},
    }


def _known_tracks(index: TruthIndex) -> Ints:
    known = index.track_ids >= 0
    return np.stack([index.video_of_object[known], index.track_ids[known]], axis=1)
