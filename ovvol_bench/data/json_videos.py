"""Videos whose frames and truth one JSON file lists: what ``youtube-vis`` and ``coco-vid`` share.

A file is parsed once, whole, and kept as columns; classes, splits and frames are chosen from those.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Ints, spans
from ovvol_bench.benchmark import FileIds, OutOfFrame
from ovvol_bench.data.cache import load_columns, store_columns
from ovvol_bench.data.indexed import IndexedTraining, IndexedVideos
from ovvol_bench.data.json_files import LARGEST, NUMBER, JsonFile, Section, read_json
from ovvol_bench.data.readers import FrameFolder, FrameReader
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.truth_index import RawAnnotations, TruthIndex, VideoFrames, build_index
from ovvol_bench.errors import DataError
from ovvol_bench.files import shown
from ovvol_bench.masks import covered, read_mask
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.printing import control_problem

VERSION = "4"
"""Of the columns and of how they are made; part of the cache's key."""

MARGIN = 1.0
"""Pixels that a box may reach over the frame before it counts as out of it, as for detections."""

NO_FRAMES = "videos without frames"
BARE = "annotations without a box or mask in any frame"
CROWD_CLASS = -1  # of objects that stand for a crowd, see RawAnnotations

Row = tuple[float, ...]
"""An object: class id, x1, y1, x2, y2, track id, occluded, generated."""


@dataclass(frozen=True)
class Annotations:
    """What a file holds, in columns.

    Attributes:
        index: truth; class ids are positions in ``category_names`` from 1.
        crowds: regions that stand for crowds, in the same frames.
        files: (F,) paths of the frames below their folder.
        video_ids: (V,) numbers of the videos in the file.
        frame_ids: (F,) numbers of the frames in the file; (0,) where frames have none.
        category_ids: (K,) numbers of the categories in the file.
        category_names: (K,) what they are called.
        bare: (V,) annotations of each video that were left out, as they have neither box nor mask.
        counts: (2,) whether there is truth at all, and how many videos without frames were left out.
    """

    index: TruthIndex
    crowds: TruthIndex
    files: npt.NDArray[np.str_]
    video_ids: Ints
    frame_ids: Ints
    category_ids: Ints
    category_names: npt.NDArray[np.str_]
    bare: Ints
    counts: Ints

    @property
    def annotated(self) -> bool:
        """Whether the file has truth; those of test sets have none."""
        return bool(self.counts[0])

    def of_videos(self, rows: Sequence[int]) -> Annotations:
        """The videos at the given positions, in that order."""
        chosen = np.asarray(rows, np.int64)
        frames = spans(self.index.frame_offsets[chosen], self.index.lengths[chosen])
        return replace(
            self,
            index=self.index.of_videos(chosen),
            crowds=self.crowds.of_videos(chosen),
            files=self.files[frames],
            video_ids=self.video_ids[chosen],
            frame_ids=self.frame_ids[frames] if len(self.frame_ids) else self.frame_ids,
            bare=self.bare[chosen],
        )


_INDICES = ("index", "crowds")
_OWN = tuple(each.name for each in fields(Annotations) if each.name not in _INDICES)


def load_annotations(
    path: Path, cache: Path, parse: Callable[[JsonFile], Annotations], form: str
) -> Annotations:
    """Read a file: from the cache, or by parsing it and then into the cache.

    Args:
        path: of the file.
        cache: folder of the cache.
        parse: makes columns of the parsed file.
        form: name of what ``parse`` does, settings included; another form is parsed again.

    Raises:
        DataError: if the file is missing or malformed; names the entry.
    """
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror}). Set dataset.path to the annotation file."
        ) from error
    source = repr((VERSION, form, os.fspath(path.absolute()), stat.st_size, stat.st_mtime_ns))
    key = f"json-{hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}"
    columns = load_columns(cache, key)
    if columns is None:
        columns = _to_columns(parse(read_json(path)))
        store_columns(cache, key, columns)
    return _from_columns(columns)


def _to_columns(annotations: Annotations) -> Mapping[str, Any]:
    columns = {name: getattr(annotations, name) for name in _OWN}
    for name in _INDICES:
        index = getattr(annotations, name)
        columns |= {f"{name}_{column.name}": getattr(index, column.name) for column in fields(TruthIndex)}
    return columns


def _from_columns(columns: Mapping[str, Any]) -> Annotations:
    indices = [
        TruthIndex(**{each.name: columns[f"{name}_{each.name}"] for each in fields(TruthIndex)})
        for name in _INDICES
    ]
    return Annotations(indices[0], indices[1], **{name: columns[name] for name in _OWN})


@dataclass
class Objects:
    """Objects of a file, in any order, while they are gathered.

    Attributes:
        section: of the annotations.
        frames: the frame of each, counted over all videos.
        rows: see ``Row``.
        areas: square pixels of each as the file says, NaN where it says nothing.
        crowds: whether each stands for a crowd.
        keep_empty: whether objects without area are kept, or left out and counted.
        masks: run lengths of each; empty bytes where it has none.
        entries: position of its annotation.
    """

    section: Section
    frames: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    crowds: list[bool] = field(default_factory=list)
    keep_empty: bool = False
    masks: list[bytes] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)

    def add(self, entry: int, frame: int, row: Row, mask: bytes, area: Any = None) -> None:
        """Add an object of the annotation at a position; area in square pixels as the file says, or None.

        Raises:
            DataError: if the area is no number from 0; names the annotation.
        """
        if area is None:
            area = float("nan")
        elif type(area) not in NUMBER or not 0 <= area <= LARGEST:
            self.section.refuse(entry, f"area is {shown(area)}; expected square pixels from 0")
        self.areas.append(area)
        self.crowds.append(bool(self.section.entries[entry].get("iscrowd")))
        self.entries.append(entry)
        self.frames.append(frame)
        self.rows.append(row)
        self.masks.append(mask)

    def mask(self, entry: int, segmentation: Any, size: tuple[int, int], what: str) -> bytes:
        """Run lengths of a segmentation; empty for none.

        Raises:
            DataError: if it is malformed or of another size; names the annotation.
        """
        if not segmentation:
            return b""
        try:
            runs, own = read_mask(segmentation, size)
        except ValueError as error:
            self.section.refuse(entry, f"{what} {error}")
        if own != size:
            self.section.refuse(
                entry, f"{what} is of size {list(own)}; expected [height, width] {list(size)}"
            )
        return runs

    def raw(self, sizes: Ints) -> tuple[RawAnnotations, RawAnnotations]:
        """Columns by frame: of all, crowds as of ``CROWD_CLASS``; and of the crowds, with their classes.

        Args:
            sizes: (F, 2) height and width of every frame.

        Raises:
            DataError: if some objects have a mask and others none, or run lengths don't fill the frame.
        """
        frames = np.array(self.frames, np.int64)
        order = np.argsort(frames, kind="stable")
        rows = np.array(self.rows, np.float64).reshape(-1, 8)[order]
        masks, areas = self._all_masks(frames, sizes), np.array(self.areas, np.float64)
        crowd = np.array(self.crowds, np.bool_)[order]

        def columns(chosen: Ints, classes: npt.NDArray[np.float64]) -> RawAnnotations:
            at = order[chosen]
            objects = np.concatenate([classes[chosen, None], rows[chosen, 1:]], axis=1)
            counts = np.bincount(frames[at], minlength=len(sizes))
            runs = None if masks is None else [masks[i] for i in at.tolist()]
            return RawAnnotations(sizes, counts, objects, runs, areas[at])

        everything = columns(np.arange(len(rows)), np.where(crowd, CROWD_CLASS, rows[:, 0]))
        return everything, columns(np.flatnonzero(crowd), rows[:, 0])

    def refuse_beyond(self, sizes: Ints) -> None:
        """Refuse boxes that reach more than a pixel out of their frame, of (F, 2) height and width.

        Raises:
            DataError: naming the annotation of the first.
        """
        boxes = np.array(self.rows, np.float64).reshape(-1, 8)[:, 1:5]
        height, width = sizes[np.array(self.frames, np.int64)].T
        x1, y1, x2, y2 = boxes.T
        beyond = np.flatnonzero(
            (np.minimum(x1, y1) < -MARGIN) | (x2 >= width + MARGIN) | (y2 >= height + MARGIN)
        )
        if len(beyond):
            row = int(beyond[0])
            self.section.refuse(
                self.entries[row],
                f"its box {boxes[row].tolist()} (x1, y1, x2, y2) reaches out of its frame of {width[row]} x "
                f"{height[row]} pixels, as {len(beyond)} boxes do (out_of_frame=keep or clip takes them)",
            )

    def _all_masks(self, frames: Ints, sizes: Ints) -> list[bytes] | None:
        if not any(self.masks):
            return None
        if not all(self.masks):
            self.section.refuse(
                self.entries[self.masks.index(b"")],
                "an object has a box but no mask, others have masks; expected masks of all objects or of "
                "none (dataset.masks=false reads boxes only)",
            )
        wrong = np.flatnonzero(covered(self.masks) != sizes.prod(axis=1)[frames])
        if len(wrong):
            self.section.refuse(
                self.entries[int(wrong[0])],
                "a mask's run lengths don't add up to the pixels of its frame; they may be cut off",
            )
        return self.masks


@dataclass(frozen=True)
class Categories:
    """The ``categories`` of a file.

    Attributes:
        section: of the file.
        ids: their numbers.
        names: what they are called, each once.
    """

    section: Section
    ids: list[int]
    names: list[str]

    @classmethod
    def of(cls, file: JsonFile) -> Categories:
        """Read them.

        Raises:
            DataError: if there is none, a number or name occurs twice, or a name is blank or holds control
                characters.
        """
        section = file.section("categories")
        names = section.column("name", (str,))
        if not names:
            raise DataError(f"{file.path}: 'categories' is empty; expected at least one.")
        section.require_unique("name", names)
        for row, name in enumerate(names):
            if not name.strip():
                section.refuse(row, "name is blank; expected what the category is called")
            if problem := control_problem(name):
                section.refuse(row, f"name {problem.rstrip('.')}")
        return cls(section, section.ids(), names)

    @property
    def row_of(self) -> dict[int, int]:
        """Position of every id."""
        return {number: row for row, number in enumerate(self.ids)}


def index_of_objects(
    videos: Sequence[VideoFrames], sizes: Ints, objects: Objects, out_of_frame: OutOfFrame
) -> tuple[TruthIndex, TruthIndex]:
    """Columns of all objects, and of the regions that stand for crowds.

    Args:
        videos: with at least one frame each.
        sizes: (F, 2) height and width of every frame.
        objects: of any frames.
        out_of_frame: what becomes of boxes that reach out of their frame.

    Raises:
        DataError: see ``Objects.raw``, if the frame size changes within a video, or if a box reaches out of
            its frame and must not.
    """
    if not videos:
        raise DataError(f"{objects.section.path}: there is no video with a frame; expected at least one.")
    if out_of_frame == "refuse":
        objects.refuse_beyond(sizes)
    clamp = out_of_frame == "clip"
    everything, crowds = (
        build_index(videos, raw, lambda _: (0, 0), clamp, objects.keep_empty) for raw in objects.raw(sizes)
    )
    return everything, crowds


def where_dense(index: TruthIndex, numbers: Sequence[Ints]) -> TruthIndex:
    """Motion IoU unknown in videos whose frames don't follow each other, by the median of their distances.

    Args:
        index: of V videos.
        numbers: of the frames of each video, as the camera took them; none where unknown.
    """
    sparse = [len(each) < 2 or float(np.median(np.diff(each))) != 1 for each in numbers]
    unknown = np.array(sparse, np.bool_)[index.video_of_object]
    return replace(index, motion_iou=np.where(unknown, np.float32(np.nan), index.motion_iou))


class JsonVideos(IndexedVideos):
    """Clips of the videos that a file lists.

    Args:
        annotations: of the videos to read.
        frames: folder that the file's names start from; looked into with the first frame that is read, so
            that predictions can be scored without any.
        vocabulary: that categories are looked up in by name; others are left out and counted.
        class_of: (K + 1,) class id of every category, from ``vocabularies.classes_of``.
        clips: how clips are cut and resized.
        out_of_frame: what becomes of detections' boxes that reach out of their frame.
    """

    def __init__(
        self,
        annotations: Annotations,
        frames: Path,
        vocabulary: Vocabulary,
        class_of: Ints,
        clips: ClipSettings,
        out_of_frame: OutOfFrame = "keep",
    ) -> None:
        super().__init__(vocabulary, clips)
        self.out_of_frame = out_of_frame
        self.index = annotations.index.with_classes(class_of)
        self.crowds = annotations.crowds.with_classes(class_of)
        self.image_ids = annotations.frame_ids if len(annotations.frame_ids) else None
        self.annotated = annotations.annotated
        self._annotations = annotations
        self._class_of, self._root = class_of, frames

    @cached_property
    def skipped(self) -> Mapping[str, int]:  # type: ignore[override]  # read by others, set by nobody
        """See ``Dataset.skipped``."""
        counts = {NO_FRAMES: int(self._annotations.counts[1]), BARE: int(self._annotations.bare.sum())}
        return {**{reason: count for reason, count in counts.items() if count}, **super().skipped}

    def frames(self, video: int, rows: Sequence[int]) -> FrameReader:
        """See ``IndexedVideos.frames``.

        Raises:
            DataError: if any of the file's frames is missing.
        """
        height, width = self.index.frame_sizes[video].tolist()
        files = [self._folder / name for name in self._annotations.files[list(rows)].tolist()]
        return FrameFolder(files, (height, width))

    def frame_files(self) -> list[str]:
        """See ``IndexedVideos.frame_files``."""
        return [f"{self._root}/{name}" for name in self._annotations.files.tolist()]

    def file_ids(self) -> FileIds:
        """The numbers in the file: of videos, frames (where they have any) and categories."""
        names = self.index.videos.tolist()
        classes = zip(self._annotations.category_ids.tolist(), self._class_of[1:].tolist(), strict=True)
        return FileIds(
            dict(zip(self._annotations.video_ids.tolist(), names, strict=True)),
            dict(zip(self._annotations.frame_ids.tolist(), self.places, strict=False)),
            {number: class_id for number, class_id in classes if class_id},
        )

    def training_videos(self) -> IndexedTraining:
        """All frames of the videos."""
        return IndexedTraining(self)

    @cached_property
    def _folder(self) -> Path:
        """The folder of frames, once all are known to be there."""
        require_files(self._root, self._annotations.files.tolist())
        return self._root


def require_files(root: Path, names: Sequence[str]) -> None:
    """Check that files are there, by listing each of their folders once.

    Raises:
        DataError: if some are missing; says how many and the first.
    """
    listed: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder not in listed:
            path = root / folder
            listed[folder] = set(os.listdir(path)) if path.is_dir() else set()  # noqa: PTH208 - names are enough
        if file not in listed[folder]:
            missing.append(name)
    if missing:
        first = ", ".join(str(root / name) for name in missing[:3])
        raise DataError(
            f"{len(missing)} of {len(names)} frames are missing under {root}, first: {first}. Set "
            "dataset.frames to the folder that the names in the file start from, or extract the frames again."
        )
