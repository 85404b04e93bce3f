"""Truth in JSON files: their objects, checked entry by entry, and the columns made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, NoReturn, Self

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Ints, spans
from ovvol_bench.data.base import OutOfFrame
from ovvol_bench.data.truth_index import RawAnnotations, TruthIndex, VideoFrames, build_index
from ovvol_bench.errors import DataError
from ovvol_bench.files import shown
from ovvol_bench.formats.entries import MARGIN
from ovvol_bench.formats.json_objects import LARGEST, NUMBER, TEXT, FieldError, JsonFile, Section, boxes_of
from ovvol_bench.masks import SizedMasks, read_mask
from ovvol_bench.printing import control_problem

CROWD_CLASS = -1  # of objects that stand for a crowd, see RawAnnotations

BoxEnds = Literal["auto", "exclusive", "inclusive"]
Refuse = Callable[[int, str], NoReturn]
"""Raises a ``DataError`` that names an object, given by its position, and the problem of its field."""


@dataclass(frozen=True)
class Reading:
    """Settings of reading an annotation file.

    Attributes:
        masks: whether to read masks; else boxes only.
        out_of_frame: what becomes of boxes that reach out of their frame.
        box_ends: whether ``x + width`` is the last column inside (``inclusive``, as where ImageNet-VID was
            converted with ``width = xmax - xmin``) or one past it (``exclusive``, as in COCO). ``auto``:
            inclusive where annotations have ``generated``, which only that conversion writes.
    """

    masks: bool = True
    out_of_frame: OutOfFrame = "keep"
    box_ends: BoxEnds = "exclusive"


@dataclass(frozen=True)
class Annotations:
    """Content of an annotation file, in columns.

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
        """True if the file has truth; those of test sets have none."""
        return bool(self.counts[0])

    def of_videos(self, rows: Sequence[int]) -> Annotations:
        """Return the videos at the given positions, in that order."""
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

    def columns(self) -> dict[str, Any]:
        """Return all arrays by name, those of indices with a prefix."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        for name in ("index", "crowds"):
            index = columns.pop(name)
            columns |= {f"{name}_{each.name}": getattr(index, each.name) for each in fields(index)}
        return columns

    @classmethod
    def of_columns(cls, columns: Mapping[str, Any]) -> Self:
        """Undo `columns`."""
        index, crowds = (
            TruthIndex(**{each.name: columns[f"{name}_{each.name}"] for each in fields(TruthIndex)})
            for name in ("index", "crowds")
        )
        return cls(index, crowds, **{each.name: columns[each.name] for each in fields(cls)[2:]})


@dataclass(frozen=True)
class Objects:
    """N objects of a file, in any order.

    Attributes:
        section: of the annotations.
        entries: (N,) position of each object's annotation.
        frames: (N,) frame of each, counted over all videos.
        class_ids: (N,) positions of the categories, from 1.
        boxes: (N, 4) float64 x1, y1, x2, y2, ends inclusive.
        track_ids: (N,) -1 where unknown.
        masks: those of the frames' sizes; missing where an object has none.
        areas: (N,) square pixels as the file says, None where it says nothing.
        occluded: (N,).
        generated: (N,).
    """

    section: Section
    entries: Ints
    frames: Ints
    class_ids: Ints
    boxes: Doubles
    track_ids: Ints
    masks: SizedMasks
    areas: Sequence[Any]
    occluded: Bools
    generated: Bools

    def indices(
        self, videos: Sequence[VideoFrames], sizes: Ints, out_of_frame: OutOfFrame, keep_empty: bool
    ) -> tuple[TruthIndex, TruthIndex]:
        """Return columns of all objects, and of the regions that stand for crowds.

        Args:
            videos: with at least one frame each.
            sizes: (F, 2) height and width of every frame.
            out_of_frame: what becomes of boxes that reach out of their frame.
            keep_empty: whether objects without area are kept, or left out and counted.

        Raises:
            DataError: if there is no video, some objects have a mask and others none, run lengths don't fill
                the frame, an area is no number from 0, the frame size changes within a video, or a box
                reaches out of its frame and must not.
        """
        if not videos:
            raise DataError(f"{self.section.path}: there is no video with a frame; expected at least one.")
        if out_of_frame == "refuse":
            self._refuse_beyond(sizes)
        order = np.argsort(self.frames, kind="stable")
        crowd = np.array([bool(entry.get("iscrowd")) for entry in self.section.entries], np.bool_)
        crowd = crowd[self.entries[order]]
        for entry, area in zip(self.entries.tolist(), self.areas, strict=True):
            if area is not None and (type(area) not in NUMBER or not 0 <= area <= LARGEST):
                self.section.refuse(entry, f"area is {shown(area)}; expected square pixels from 0")
        areas = np.array([float("nan") if area is None else area for area in self.areas], np.float64)
        masks = self._checked_masks()
        columns = (*self.boxes.T, self.track_ids, self.occluded, self.generated)
        rows = np.stack([np.asarray(each, np.float64)[order] for each in columns], axis=1)
        class_ids = self.class_ids[order]

        def index_of(chosen: Ints, classes: Ints) -> TruthIndex:
            at = order[chosen]
            raw = RawAnnotations(
                sizes,
                np.bincount(self.frames[at], minlength=len(sizes)),
                np.column_stack([classes[chosen], rows[chosen]]),
                None if masks is None else [masks[i] or b"" for i in at.tolist()],
                areas[at],
            )
            return build_index(videos, raw, lambda _: (0, 0), out_of_frame == "clip", keep_empty)

        # Crowds are no objects: left out and counted in the first index, alone in the second.
        everything = index_of(np.arange(len(rows)), np.where(crowd, CROWD_CLASS, class_ids))
        return everything, index_of(np.flatnonzero(crowd), class_ids)

    def _refuse_beyond(self, sizes: Ints) -> None:
        (x1, y1, x2, y2), (height, width) = self.boxes.T, sizes[self.frames].T
        beyond = (np.minimum(x1, y1) < -MARGIN) | (x2 >= width + MARGIN) | (y2 >= height + MARGIN)
        if beyond.any():
            row = int(np.argmax(beyond))
            self.section.refuse(
                int(self.entries[row]),
                f"its box {self.boxes[row].tolist()} (x1, y1, x2, y2) reaches out of its frame of "
                f"{width[row]} x {height[row]} pixels, as {beyond.sum()} boxes do (out_of_frame=keep or clip "
                "takes them)",
            )

    def _checked_masks(self) -> Sequence[bytes | None] | None:
        if self.masks.missing.all():
            return None
        if self.masks.missing.any():
            self.section.refuse(
                int(self.entries[np.argmax(self.masks.missing)]),
                "an object has a box but no mask, others have masks; expected masks of all objects or of "
                "none (dataset.masks=false reads boxes only)",
            )
        if self.masks.broken.any():
            self.section.refuse(
                int(self.entries[np.argmax(self.masks.broken)]),
                "a mask's run lengths don't add up to the pixels of its frame; they may be cut off",
            )
        return self.masks.counts


def read_categories(file: JsonFile) -> tuple[Section, list[str]]:
    """Return the ``categories`` of a file and their names, each once.

    Raises:
        DataError: if there is none, a number or name occurs twice, or a name is blank or holds control
            characters.
    """
    section = file.section("categories")
    names: list[str] = section.column("name", TEXT)
    if not names:
        raise DataError(f"{file.path}: 'categories' is empty; expected at least one.")
    section.require_unique("name", names)
    for row, name in enumerate(names):
        if not name.strip():
            section.refuse(row, "name is blank; expected what the category is called")
        if problem := control_problem(name):
            section.refuse(row, f"name {problem.rstrip('.')}")
    return section, names


def read_masks(segmentations: Sequence[Any], sizes: Ints, refuse: Refuse) -> SizedMasks:
    """Read masks of objects, each of its frame's size.

    Args:
        segmentations: (N,) of the file; those that are empty or null are no masks.
        sizes: (N, 2) height and width of the frames.
        refuse: gets a mask that is malformed or of another size.
    """
    counts: list[bytes | None] = []
    frames = map(tuple, sizes.tolist())
    for row, (segmentation, size) in enumerate(zip(segmentations, frames, strict=True)):
        if not segmentation:
            counts.append(None)
            continue
        try:
            runs, own = read_mask(segmentation, size)
        except ValueError as error:
            refuse(row, str(error))
        if own != size:
            refuse(row, f"is of size {list(own)}; expected [height, width] {list(size)}")
        counts.append(runs)
    return SizedMasks(counts, sizes)


def read_boxes(boxes: Sequence[Any], refuse: Refuse, end: int = 1) -> Doubles:
    """Read boxes ``[x, y, width, height]`` of objects as (N, 4) x1, y1, x2, y2, ends inclusive.

    Args:
        boxes: (N,) of the file.
        refuse: gets one that is no box of finite numbers.
        end: 1 if ``x + width`` is one past the last column inside, 0 if it is that column.
    """
    try:
        corners = boxes_of(boxes)
    except FieldError as error:
        refuse(error.row, str(error))
    sound = (np.abs(corners) < LARGEST).all(axis=1) & (corners[:, 2:] >= 0).all(axis=1)  # NaN isn't either
    if not sound.all():
        row = int(np.argmin(sound))
        refuse(row, f"is {shown(boxes[row])}; expected finite numbers and no negative width or height")
    corners[:, 2:] += corners[:, :2] - end
    return corners


def where_dense(index: TruthIndex, numbers: Sequence[Ints]) -> TruthIndex:
    """Make motion IoU unknown in videos whose frames don't follow each other, by their median distance.

    Args:
        index: of V videos.
        numbers: of the frames of each video, as the camera took them; none where unknown.
    """
    sparse = [len(each) < 2 or float(np.median(np.diff(each))) != 1 for each in numbers]
    unknown = np.array(sparse, np.bool_)[index.video_of_object]
    return replace(index, motion_iou=np.where(unknown, np.float32(np.nan), index.motion_iou))
