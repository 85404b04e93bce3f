"""Videos whose frames and truth one JSON file lists: what ``youtube-vis`` and ``coco-vid`` share.

A file is parsed once, whole, and kept as columns; classes, splits and frames are chosen from those.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.benchmark import FileIds
from ovvol_bench.data.cache import load_columns, store_columns
from ovvol_bench.data.coco_masks import run_lengths
from ovvol_bench.data.indexed import IndexedTraining, IndexedVideos
from ovvol_bench.data.json_files import JsonFile, Section, read_json
from ovvol_bench.data.readers import FrameFolder, FrameReader
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.truth_index import TruthIndex
from ovvol_bench.data.truth_rows import RawAnnotations, VideoFrames, build_index
from ovvol_bench.errors import DataError
from ovvol_bench.masks import covered
from ovvol_bench.naming.vocabulary import Vocabulary
from ovvol_bench.ragged import spans
from ovvol_bench.types import Ints

VERSION = "1"
"""Of the columns and of how they are made; part of the cache's key."""

NO_FRAMES = "videos without frames"
CROWD_CLASS = -1  # of objects that stand for a crowd, see RawAnnotations

Row = tuple[float, ...]
"""An object: class id, x1, y1, x2, y2, track id, occluded, generated."""


@dataclass(frozen=True)
class Annotations:
    """What a file holds, in columns.

    Attributes:
        index: truth; class ids are positions in ``category_names`` from 1.
        files: (F,) paths of the frames below their folder.
        video_ids: (V,) numbers of the videos in the file.
        frame_ids: (F,) numbers of the frames in the file; (0,) where frames have none.
        category_ids: (K,) numbers of the categories in the file.
        category_names: (K,) what they are called.
        counts: (2,) whether there is truth at all, and how many videos without frames were left out.
    """

    index: TruthIndex
    files: npt.NDArray[np.str_]
    video_ids: Ints
    frame_ids: Ints
    category_ids: Ints
    category_names: npt.NDArray[np.str_]
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
            files=self.files[frames],
            video_ids=self.video_ids[chosen],
            frame_ids=self.frame_ids[frames] if len(self.frame_ids) else self.frame_ids,
        )


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
            f"{path} can't be read ({error.strerror}). Set path to the annotation file."
        ) from error
    source = repr((VERSION, form, os.fspath(path.absolute()), stat.st_size, stat.st_mtime_ns))
    key = f"json-{hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}"
    columns = load_columns(cache, key)
    if columns is None:
        columns = _to_columns(parse(read_json(path)))
        store_columns(cache, key, columns)
    return _from_columns(columns)


def _to_columns(annotations: Annotations) -> Mapping[str, Any]:
    own = {each.name: getattr(annotations, each.name) for each in fields(Annotations) if each.name != "index"}
    return {**own, **{f"index_{name}": column for name, column in asdict(annotations.index).items()}}


def _from_columns(columns: Mapping[str, Any]) -> Annotations:
    index = TruthIndex(**{each.name: columns[f"index_{each.name}"] for each in fields(TruthIndex)})
    own = {each.name: columns[each.name] for each in fields(Annotations) if each.name != "index"}
    return Annotations(index, **own)


@dataclass
class Objects:
    """Objects of a file, in any order, while they are gathered.

    Attributes:
        section: of the annotations.
        frames: the frame of each, counted over all videos.
        rows: see ``Row``.
        masks: run lengths of each; empty bytes where it has none.
        entries: position of its annotation.
    """

    section: Section
    frames: list[int] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    masks: list[bytes] = field(default_factory=list)
    entries: list[int] = field(default_factory=list)

    def add(self, entry: int, frame: int, row: Row, mask: bytes) -> None:
        """Add an object of the annotation at a position."""
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
            return run_lengths(segmentation, size)
        except ValueError as error:
            self.section.refuse(entry, f"{what} {error}")

    def raw(self, sizes: Ints) -> RawAnnotations:
        """Columns by frame.

        Args:
            sizes: (F, 2) height and width of every frame.

        Raises:
            DataError: if some objects have a mask and others none, or run lengths don't fill the frame.
        """
        frames = np.array(self.frames, np.int64)
        order = np.argsort(frames, kind="stable")
        rows = np.array(self.rows, np.float64).reshape(-1, 8)[order]
        counts = np.bincount(frames, minlength=len(sizes))
        masks = self._all_masks(frames, sizes)
        sorted_masks = None if masks is None else [masks[i] for i in order.tolist()]
        return RawAnnotations(sizes, counts, rows, sorted_masks)

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
            DataError: if there is none, or a number or name occurs twice.
        """
        section = file.section("categories")
        names = section.column("name", (str,))
        if not names:
            raise DataError(f"{file.path}: 'categories' is empty; expected at least one.")
        section.require_unique("name", names)
        return cls(section, section.ids(), names)

    @property
    def row_of(self) -> dict[int, int]:
        """Position of every id."""
        return {number: row for row, number in enumerate(self.ids)}


def index_of_objects(videos: Sequence[VideoFrames], sizes: Ints, objects: Objects) -> TruthIndex:
    """Columns of all objects.

    Args:
        videos: with at least one frame each.
        sizes: (F, 2) height and width of every frame.
        objects: of any frames.

    Raises:
        DataError: see ``Objects.raw``, or if the frame size changes within a video.
    """
    if not videos:
        raise DataError(f"{objects.section.path}: there is no video with a frame; expected at least one.")
    return build_index(videos, objects.raw(sizes), lambda _: (0, 0))


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
    """

    def __init__(
        self,
        annotations: Annotations,
        frames: Path,
        vocabulary: Vocabulary,
        class_of: Ints,
        clips: ClipSettings,
    ) -> None:
        super().__init__(vocabulary, clips)
        self.index = annotations.index.with_classes(class_of)
        self.annotated = annotations.annotated
        self._annotations = replace(annotations, index=self.index)
        self._class_of, self._root = class_of, frames

    @cached_property
    def skipped(self) -> Mapping[str, int]:  # type: ignore[override]  # read by others, set by nobody
        """See ``Dataset.skipped``."""
        empty = int(self._annotations.counts[1])
        return {**({NO_FRAMES: empty} if empty else {}), **super().skipped}

    def frames(self, video: int, rows: Sequence[int]) -> FrameReader:
        """See ``IndexedVideos.frames``.

        Raises:
            DataError: if any of the file's frames is missing.
        """
        height, width = self.index.frame_sizes[video].tolist()
        files = [self._folder / name for name in self._annotations.files[list(rows)].tolist()]
        return FrameFolder(files, (height, width))

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
