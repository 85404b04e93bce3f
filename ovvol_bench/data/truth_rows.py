"""Objects as files list them, frame by frame, and the index that is made of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Floats, Ints, offsets_of
from ovvol_bench.data.motion import motion_iou
from ovvol_bench.data.truth_index import TruthIndex, mask_columns
from ovvol_bench.errors import DataError


@dataclass(frozen=True)
class VideoFrames:
    """A video and its frames.

    Attributes:
        name: unique in its dataset.
        numbers: (T,) of the frames, in order; at least one.
    """

    name: str
    numbers: Ints


@dataclass(frozen=True)
class RawAnnotations:
    """What F files say, unchecked against image and vocabulary.

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

    @classmethod
    def joined(cls, parts: Sequence[RawAnnotations]) -> RawAnnotations:
        """Parts without masks, one after the other."""
        return cls(
            np.concatenate([part.sizes for part in parts]),
            np.concatenate([part.counts for part in parts]),
            np.concatenate([part.objects for part in parts]),
        )


def build_index(
    videos: Sequence[VideoFrames],
    raw: RawAnnotations,
    size_of: Callable[[VideoFrames], tuple[int, int]],
    clamp: bool = True,
    keep_empty: bool = False,
) -> TruthIndex:
    """Columns from what the files say, with the reference's rules.

    Objects of unknown class, without area, or that stand for a crowd are dropped and counted.

    Args:
        videos: in the order of ``raw``.
        raw: annotations of all frames.
        size_of: (height, width) of a video whose annotations don't tell.
        clamp: whether boxes are cut at the frame's edges (0 to width - 1 and height - 1), as the reference
            does with ImageNet-VID's, or stay as they are, as pycocotools and TrackEval take them.
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
        boxes = _clamped(raw.objects[:, 1:5], sizes[all_videos])
    else:
        boxes = raw.objects[:, 1:5].astype(np.float32)
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] - 1)  # a width of 0 stays one when rounded
    named = raw.objects[:, 0]
    # Ends are inclusive: 0.4 pixels are an area too.
    sides = boxes[:, 2:] - boxes[:, :2] + 1
    solid = (sides >= 0).all(axis=1) if keep_empty else (sides > 0).all(axis=1)
    keep = (named > 0) & solid
    boxes, frame_of, video_of, rows = boxes[keep], frame_of[keep], all_videos[keep], raw.objects[keep]
    tracks = rows[:, 5].astype(np.int64)
    runs, run_offsets = mask_columns(
        None if raw.masks is None else [raw.masks[row] for row in np.flatnonzero(keep).tolist()]
    )
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


def _clamped(boxes: npt.NDArray[np.float64], sizes: Ints) -> Floats:
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(boxes[:, 2:], sizes[:, ::-1] - 1)
    return np.concatenate([low, high], axis=1).astype(np.float32)


def _video_sizes(
    videos: Sequence[VideoFrames],
    sizes: Ints,
    offsets: Ints,
    size_of: Callable[[VideoFrames], tuple[int, int]],
) -> Ints:
    """(V, 2) the one size of every video; frames without a size (0) have that of the others."""
    largest = np.maximum.reduceat(sizes, offsets[:-1])
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
