"""Truth of many videos as columns: quick to load, to choose from, and to share between processes.

Readers of a format give ``RawAnnotations``, as the files list them; ``build_index`` checks them, applies the
reference's rules and counts what it leaves out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints, offsets_of, spans
from ovvol_bench.data.base import Dataset
from ovvol_bench.data.motion import motion_iou
from ovvol_bench.errors import DataError
from ovvol_bench.masks import RleMasks
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import FrameTable

UNKNOWN_CLASS = "objects of classes outside the vocabulary"
NO_AREA = "objects without area inside the frame"
CROWD = "objects that stand for a crowd"
REASONS = (UNKNOWN_CLASS, NO_AREA, CROWD)
"""Reasons to leave objects out, in the order of ``TruthIndex.dropped``."""


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
        """True if every object has a mask."""
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
        return replace(self, class_ids=classes, dropped=dropped).of_objects(np.flatnonzero(classes))

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
        """Hash names and lengths of the videos, in order: 8 hex digits."""
        pairs = list(zip(self.videos.tolist(), self.lengths.tolist(), strict=True))
        return hashlib.blake2b(repr(pairs).encode(), digest_size=4).hexdigest()

    def of_objects(self, rows: Ints) -> TruthIndex:
        """The objects at the given positions, ascending."""
        offsets = np.searchsorted(rows, self.object_offsets).astype(np.int64)
        return replace(self, object_offsets=offsets, **self._object_columns(rows))

    def _object_columns(self, rows: Ints) -> dict[str, Any]:
        if np.array_equal(rows, np.arange(len(self.boxes))):
            return {}  # all stay: millions of rows aren't copied
        names = ("boxes", "class_ids", "track_ids", "occluded", "generated", "motion_iou")
        columns = {name: getattr(self, name)[rows] for name in names}
        if len(self.areas):
            columns["areas"] = self.areas[rows]
        if not self.has_masks:
            return columns
        # neighbours are copied together, for there can be gigabytes
        blocks = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        parts = [self.mask_runs[self.mask_offsets[b[0]] : self.mask_offsets[b[-1] + 1]] for b in blocks]
        return {
            **columns,
            "mask_runs": np.concatenate([np.zeros(0, np.uint8), *parts]),
            "mask_offsets": offsets_of(np.diff(self.mask_offsets)[rows]),
        }

    def _masks(self, frame: int) -> RleMasks:
        video = int(np.searchsorted(self.frame_offsets, frame, side="right")) - 1
        height, width = self.frame_sizes[video].tolist()
        first, last = self.object_offsets[frame : frame + 2].tolist()
        ends = self.mask_offsets[first : last + 1].tolist()
        return RleMasks(
            (height, width), tuple(self.mask_runs[start:end].tobytes() for start, end in pairwise(ends))
        )


@dataclass(frozen=True)
class VideoFrames:
    """A video and the numbers of its frames.

    Attributes:
        name: unique in its dataset.
        numbers: (T,) of the frames, in order; at least one.
    """

    name: str
    numbers: Ints


@dataclass(frozen=True)
class RawAnnotations:
    """Content of F annotation files, unchecked against image and vocabulary.

    Attributes:
        sizes: (F, 2) height and width, 0 where a file has none.
        counts: (F,) objects a file.
        objects: (M, 8) float64 in file order: class id (0: not in the vocabulary, -1: a crowd), xmin, ymin,
            xmax, ymax, track id (-1 if none), occluded, generated.
        masks: (M,) run lengths of every object, or None where there are none.
        areas: (M,) square pixels of every object, NaN where the file says nothing, or None.
    """

    sizes: npt.NDArray[np.int64]
    counts: npt.NDArray[np.int64]
    objects: npt.NDArray[np.float64]
    masks: Sequence[bytes] | None = None
    areas: npt.NDArray[np.float64] | None = None

    @cached_property
    def object_offsets(self) -> Ints:
        """(F + 1,) where the objects of a file begin."""
        return offsets_of(self.counts)


def build_index(
    videos: Sequence[VideoFrames],
    raw: RawAnnotations,
    size_of: Callable[[VideoFrames], tuple[int, int]],
    clamp: bool = True,
    keep_empty: bool = False,
) -> TruthIndex:
    """Make columns from what the files say, with the reference's rules.

    Objects of unknown class, without area, or that stand for a crowd are dropped and counted.

    Args:
        videos: in the order of ``raw``.
        raw: annotations of all frames.
        size_of: (height, width) of a video whose annotations don't tell.
        clamp: cut boxes at the frame's edges (0 to width - 1 and height - 1), as the reference does with
            ImageNet-VID's; otherwise they stay as they are, as pycocotools and TrackEval take them.
        keep_empty: keep boxes whose width or height is 0, which pycocotools counts as missed.

    Raises:
        DataError: if the frame size changes within a video.
    """
    lengths = np.array([len(video.numbers) for video in videos], np.int64)
    offsets = offsets_of(lengths)
    sizes = _video_sizes(videos, raw.sizes, offsets, size_of)
    numbers = np.concatenate([video.numbers for video in videos])
    frame_of = np.repeat(np.arange(len(numbers)), raw.counts)
    all_videos = np.repeat(np.repeat(np.arange(len(videos)), lengths), raw.counts)
    if clamp:
        low = np.maximum(raw.objects[:, 1:3], 0)
        high = np.minimum(raw.objects[:, 3:5], sizes[all_videos][:, ::-1] - 1)
        boxes = np.concatenate([low, high], axis=1).astype(np.float32)
    else:
        boxes = raw.objects[:, 1:5].astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] - 1)  # a width of 0 stays one when rounded
    named = raw.objects[:, 0]
    # ends are inclusive: 0.4 pixels are an area too
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    solid = (sides >= 0).all(axis=1) if keep_empty else (sides > 0).all(axis=1)
    keep = (named > 0) & solid  # a crowd is -1, and counted below
    boxes, frame_of, video_of, rows = boxes[keep], frame_of[keep], all_videos[keep], raw.objects[keep]
    tracks = rows[:, 5].astype(np.int64)
    runs, run_offsets = np.zeros(0, np.uint8), np.zeros(0, np.int64)  # empty: there are no masks
    if raw.masks is not None:
        masks = [raw.masks[row] for row in np.flatnonzero(keep).tolist()]
        run_offsets = offsets_of(np.fromiter(map(len, masks), np.int64, len(masks)))
        runs = np.frombuffer(b"".join(masks), np.uint8)
    lost = (named == 0, (named > 0) & ~solid, named < 0)  # in the order of REASONS
    return TruthIndex(
        videos=np.array([video.name for video in videos]),
        frame_offsets=offsets,
        frame_numbers=numbers,
        frame_sizes=sizes,
        object_offsets=np.searchsorted(frame_of, np.arange(len(numbers) + 1)).astype(np.int64),
        boxes=boxes,
        class_ids=rows[:, 0].astype(np.int64),
        track_ids=tracks,
        occluded=rows[:, 6] != 0,
        generated=rows[:, 7] != 0,
        motion_iou=motion_iou(video_of, numbers[frame_of], tracks, boxes),
        dropped=np.stack([np.bincount(all_videos[drop], minlength=len(videos)) for drop in lost], axis=1),
        mask_runs=runs,
        mask_offsets=run_offsets,
        areas=np.zeros(0) if raw.areas is None else raw.areas[keep],
    )


def _video_sizes(
    videos: Sequence[VideoFrames],
    sizes: Ints,
    offsets: Ints,
    size_of: Callable[[VideoFrames], tuple[int, int]],
) -> Ints:
    """(V, 2) size of every video; frames without a size (0) have that of the others."""
    largest = np.maximum.reduceat(sizes, offsets[:-1])  # a video has a frame at least
    filled = np.where(sizes > 0, sizes, np.repeat(largest, np.diff(offsets), axis=0))
    changes = (np.minimum.reduceat(filled, offsets[:-1]) != largest).any(axis=1)
    if changes.any():
        names = ", ".join(videos[i].name for i in np.flatnonzero(changes)[:3])
        raise DataError(
            f"The frame size changes within {changes.sum()} videos, first: {names}. "
            "Expected one size in all annotations of a video; leave these videos out of the list."
        )
    for i in np.flatnonzero((largest <= 0).any(axis=1)).tolist():
        largest[i] = size_of(videos[i])
    return largest


def describe(index: TruthIndex, vocabulary: Vocabulary) -> dict[str, int | str]:
    """Count videos, frames, objects by class and objects left out; hash the list of videos."""
    known = index.track_ids >= 0
    tracks = np.stack([index.video_of_object[known], index.track_ids[known]], axis=1)
    by_class = np.bincount(index.class_ids, minlength=len(vocabulary.names))
    return {
        "videos": len(index.videos),
        "hash of the list": index.list_hash(),
        "frames": len(index.frame_numbers),
        "frames without objects": int((np.diff(index.object_offsets) == 0).sum()),
        "objects": len(index.boxes),
        "objects with a mask": len(index.boxes) if index.has_masks else 0,
        "objects drawn by hand": int((~index.generated).sum()),
        "tracks": len(np.unique(tracks, axis=0)),
        **{f"objects: {name}": int(n) for name, n in zip(vocabulary.names, by_class, strict=True) if n},
        **{f"left out: {reason}": count for reason, count in index.skipped.items()},
    }


def class_frequencies(dataset: Dataset) -> dict[str, int]:
    """Count boxes by class name, every class of the vocabulary listed, in its order.

    Frames that belong to an earlier clip aren't counted again.

    Args:
        dataset: with truth.

    Raises:
        DataError: if a clip has none.
    """
    found: Counter[int] = Counter()
    for info in map(dataset.info, range(len(dataset))):
        if info.truth is None:
            raise DataError(f"clip {info.id} has no truth to count. Choose a dataset or split with truth.")
        for frame in info.truth[info.context :]:
            found.update(frame.class_ids.tolist())
    return {item.name: found[class_id] for class_id, item in enumerate(dataset.vocabulary.classes, 1)}
