"""All truth of an ILSVRC-VID split as columns: parsed once, then read from a cache."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ovvol_bench.data.cache import load_columns, store_columns
from ovvol_bench.data.motion import motion_iou
from ovvol_bench.data.readers import image_size
from ovvol_bench.data.vid_annotations import RawAnnotations, read_annotations
from ovvol_bench.data.vid_tree import ANNOTATION_SUFFIX, FRAME_SUFFIX, ListedVideo, VidTree, file_numbers
from ovvol_bench.errors import DataError
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.types import Bools, Floats, FrameTable, Ints

VERSION = "1"
"""Of the columns and of how they are made; part of the cache's key."""

UNKNOWN_CLASS = "objects of classes outside the vocabulary"
NO_AREA = "objects without area inside the frame"


@dataclass(frozen=True)
class VidVideo:
    """A video whose frames are there.

    Attributes:
        name: path under the tree's frames.
        numbers: (T,) of the frames, in order; at least one.
    """

    name: str
    numbers: Ints


@dataclass(frozen=True)
class VidIndex:
    """V videos with F frames and M objects in all; offsets say where a video or frame begins.

    Attributes:
        videos: (V,) names.
        frame_offsets: (V + 1,) where a video's frames lie in the frame columns.
        frame_numbers: (F,) as in the file names.
        frame_sizes: (V, 2) height and width in pixels.
        object_offsets: (F + 1,) where a frame's objects lie in the object columns.
        boxes: (M, 4) float32, pixels, ends inclusive, inside the frame.
        class_ids: (M,) from 1.
        track_ids: (M,) unique within the video, -1 where unknown.
        occluded: (M,).
        generated: (M,) interpolated, not drawn.
        motion_iou: (M,) NaN where unknown.
        dropped: (2,) objects left out: of unknown class, without area.
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

    @property
    def lengths(self) -> Ints:
        """(V,) frames of every video."""
        return np.diff(self.frame_offsets)

    @property
    def skipped(self) -> dict[str, int]:
        """Reason to count of objects left out."""
        counts = zip((UNKNOWN_CLASS, NO_AREA), self.dropped.tolist(), strict=True)
        return {reason: count for reason, count in counts if count}

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
        )


def find_frames(tree: VidTree, listed: Sequence[ListedVideo]) -> tuple[VidVideo, ...]:
    """Check that all listed frames are there, and fill in the numbers of whole folders.

    Raises:
        DataError: if frames are missing, or there is no frame at all; says how many and the first.
    """
    videos, missing = [], []
    for video in listed:
        there = set(file_numbers(tree.frames / video.name, FRAME_SUFFIX))
        numbers = tuple(sorted(there)) if video.numbers is None else video.numbers
        wanted = numbers if numbers else (0,)  # a listed folder without frames misses its first
        missing += [tree.frame(video.name, number) for number in wanted if number not in there]
        videos.append(VidVideo(video.name, np.array(numbers, np.int64)))
    if missing or not videos:
        raise _missing("frames", missing, tree.frames / tree.split)
    return tuple(videos)


def load_index(
    tree: VidTree,
    videos: Sequence[VidVideo],
    vocabulary: Vocabulary,
    cache: Path,
    processes: int | None = None,
) -> VidIndex:
    """Read the truth of videos: from the cache, or from the XML files and then into the cache.

    The cache's key hashes the videos and frames, the annotations' sizes and times of change, the
    vocabulary's codes, and ``VERSION``: whatever changes, the files are read again.

    Args:
        tree: where the files lie.
        videos: from ``find_frames``.
        vocabulary: its codes are the names in the files; other objects are left out and counted.
        cache: folder of the cache.
        processes: that parse; None chooses.

    Raises:
        DataError: if annotations are missing or not valid, or the frame size changes within a video.
    """
    key = _key(tree, videos, vocabulary)
    if columns := load_columns(cache, key):
        return VidIndex(**columns)
    jobs = [(tree.annotations / video.name, video.numbers.tolist()) for video in videos]
    raw = read_annotations(jobs, vocabulary.id_of_code, processes)
    index = build_index(videos, raw, lambda video: image_size(tree.frame(video.name, int(video.numbers[0]))))
    store_columns(cache, key, asdict(index))
    return index


def build_index(
    videos: Sequence[VidVideo], raw: RawAnnotations, size_of: Callable[[VidVideo], tuple[int, int]]
) -> VidIndex:
    """Columns from what the files say, with the reference's rules.

    Boxes are clamped to the frame (0 to width - 1 and height - 1), objects of unknown class or without
    area are dropped and counted.

    Args:
        videos: in the order of ``raw``.
        raw: annotations of all frames.
        size_of: (height, width) of a video whose annotations don't tell.

    Raises:
        DataError: if the frame size changes within a video.
    """
    lengths = [len(video.numbers) for video in videos]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    sizes = _video_sizes(videos, raw.sizes, offsets, size_of)
    numbers = np.concatenate([video.numbers for video in videos])
    frame_of = np.repeat(np.arange(len(numbers)), raw.counts)
    video_of = np.repeat(np.repeat(np.arange(len(videos)), lengths), raw.counts)
    boxes = _clamped(raw.objects[:, 1:5], sizes[video_of])
    known = raw.objects[:, 0] > 0
    solid = (boxes[:, 2:] >= boxes[:, :2]).all(axis=1)
    keep = known & solid
    boxes, frame_of, video_of, rows = boxes[keep], frame_of[keep], video_of[keep], raw.objects[keep]
    tracks = rows[:, 5].astype(np.int64)
    return VidIndex(
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
        dropped=np.array([(~known).sum(), (known & ~solid).sum()], np.int64),
    )


def describe(index: VidIndex, vocabulary: Vocabulary) -> dict[str, int]:
    """Counts of what an index holds: videos, frames, objects, objects a class, objects left out."""
    by_class = np.bincount(index.class_ids, minlength=len(vocabulary.names))
    return {
        "videos": len(index.videos),
        "frames": len(index.frame_numbers),
        "frames without objects": int((np.diff(index.object_offsets) == 0).sum()),
        "objects": len(index.boxes),
        "objects drawn by hand": int((~index.generated).sum()),
        **{f"objects: {name}": int(n) for name, n in zip(vocabulary.names, by_class, strict=True) if n},
        **{f"left out: {reason}": count for reason, count in index.skipped.items()},
    }


def _clamped(boxes: npt.NDArray[np.float64], sizes: Ints) -> Floats:
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(boxes[:, 2:], sizes[:, ::-1] - 1)
    return np.concatenate([low, high], axis=1).astype(np.float32)


def _video_sizes(
    videos: Sequence[VidVideo], sizes: Ints, offsets: Ints, size_of: Callable[[VidVideo], tuple[int, int]]
) -> Ints:
    """(V, 2) the one size of every video; frames without a size (0) have that of the others."""
    largest = np.maximum.reduceat(sizes, offsets[:-1])
    filled = np.where(sizes > 0, sizes, np.repeat(largest, np.diff(offsets), axis=0))
    changes = (np.minimum.reduceat(filled, offsets[:-1]) != largest).any(axis=1)
    if changes.any():
        names = ", ".join(videos[i].name for i in np.flatnonzero(changes)[:3])
        raise DataError(
            f"The frame size changes within {changes.sum()} videos, first: {names}. "
            "Expected one <size> in all annotations of a video; leave these videos out of the list."
        )
    for i in np.flatnonzero((largest <= 0).any(axis=1)).tolist():
        largest[i] = size_of(videos[i])
    return largest


def _key(tree: VidTree, videos: Sequence[VidVideo], vocabulary: Vocabulary) -> str:
    digest = hashlib.blake2b(repr((VERSION, vocabulary.id_of_code)).encode(), digest_size=16)
    missing: list[Path] = []
    for video in videos:
        folder = tree.annotations / video.name
        stamps = _stamps(folder)
        names = [f"{number:06d}{ANNOTATION_SUFFIX}" for number in video.numbers.tolist()]
        missing += [folder / name for name in names if name not in stamps]
        own = np.array([stamps.get(name, (0, 0)) for name in names], np.int64)
        digest.update(video.name.encode() + video.numbers.tobytes() + own.tobytes())
    if missing:
        raise _missing("annotations", missing, tree.annotations / tree.split)
    return f"vid-{digest.hexdigest()}"


def _stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of change of every annotation in a folder."""
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: ((stat := entry.stat()).st_size, stat.st_mtime_ns)
            for entry in entries
            if entry.name.endswith(ANNOTATION_SUFFIX)
        }


def _missing(what: str, paths: Sequence[Path], folder: Path) -> DataError:
    if not paths:
        return DataError(f"{folder} has no videos: expected folders of numbered {FRAME_SUFFIX} files.")
    first = ", ".join(str(path) for path in paths[:3])
    return DataError(
        f"{len(paths)} {what} are missing under {folder}, first: {first}. "
        "Extract the dataset again, or give a list of what is there."
    )
