"""Data that passes between the parts: frozen dataclasses, every shape stated.

Axes: ``B`` clips in a batch, ``T`` frames, ``S`` feature steps (``T / tubelet size``), ``H W`` pixels,
``h w`` patches, ``K`` slots, ``N`` localized segments, ``M`` true objects, ``D`` feature channels,
``E`` channels shared by patches and text, ``C`` foreground classes.

Boxes are ``x1, y1, x2, y2`` in pixels of the original frame, **ends inclusive**: ``x2`` is the last
pixel column inside, as in PASCAL VOC and ILSVRC. Class ids run from 1 to C; 0 is the background.

This module imports no torch: arrays of the data side are numpy, tensors are annotations only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, overload

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints

if TYPE_CHECKING:
    from torch import Tensor

    from ovvol_bench.masks import RleMasks


@dataclass(frozen=True)
class FrameTruth:
    """True objects of one frame.

    `FrameTruth.of_boxes` fills in what a dataset doesn't know.

    Attributes:
        boxes: (M, 4) float32, pixels of the original frame, ends inclusive.
        class_ids: (M,) int64 in [1, C].
        track_ids: (M,) int64, unique within the video, -1 where unknown.
        occluded: (M,) bool.
        generated: (M,) bool, true where the box was interpolated and not drawn by hand.
        motion_iou: (M,) float32 in [0, 1], NaN where unknown: mean IoU with the same track's boxes
            at -10 to +10 frames (FGFA's definition of slow > 0.9, medium, fast < 0.7).
        masks: (M, H, W) bool at the original size, or the same as run lengths, or None where the dataset
            has none.
        areas: (M,) float64 square pixels as the annotation says, NaN where it says nothing, or None where no
            annotation does; COCO's ranges of area go by these.
        crowds: regions that stand for crowds, which are no objects: COCO's metrics ignore what is found
            there. Those of class 0 are of no class, as void is: only metrics of masks can leave them out.
            None where there are none.
    """

    boxes: Floats
    class_ids: Ints
    track_ids: Ints
    occluded: Bools
    generated: Bools
    motion_iou: Floats
    masks: Bools | RleMasks | None = None
    areas: npt.NDArray[np.float64] | None = None
    crowds: FrameTruth | None = None

    @classmethod
    def of_boxes(
        cls,
        boxes: npt.ArrayLike,
        class_ids: npt.ArrayLike,
        track_ids: npt.ArrayLike | None = None,
        masks: Bools | None = None,
    ) -> FrameTruth:
        """Truth of a frame from what most datasets know.

        Args:
            boxes: (M, 4) x1, y1, x2, y2 in pixels of the original frame, ends inclusive: add w - 1 and h - 1
                to x and y of boxes that state width and height.
            class_ids: (M,) from 1, positions in the vocabulary plus 1.
            track_ids: (M,) unique within the video; None: not known.
            masks: (M, H, W) at the original size; None: not known.

        Raises:
            DataError: if the shapes don't fit together, a box ends before it begins or isn't finite, or a
                class id is below 1.

        >>> FrameTruth.of_boxes([[10, 20, 30, 40]], [1]).track_ids.tolist()
        [-1]
        """
        from ovvol_bench.errors import DataError

        corners, classes = np.asarray(boxes, np.float32).reshape(-1, 4), np.asarray(class_ids, np.int64)
        count = len(corners)
        tracks = np.full(count, -1) if track_ids is None else np.asarray(track_ids)
        if (
            classes.shape != (count,)
            or tracks.shape != (count,)
            or (masks is not None and len(masks) != count)
        ):
            raise DataError(
                f"{count} boxes with class_ids of shape {classes.shape}, track_ids of shape {tracks.shape} "
                f"and {'no' if masks is None else len(masks)} masks: expected one of each for every box."
            )
        good = (
            np.isfinite(corners).all(axis=1) & (corners[:, 2:] >= corners[:, :2]).all(axis=1) & (classes > 0)
        )
        if not good.all():
            row = int(np.argmin(good))
            raise DataError(
                f"box {corners[row].tolist()} of class {classes[row]}: expected x1 <= x2, y1 <= y2, and a "
                "class id from 1."
            )
        no, unknown = np.zeros(count, np.bool_), np.full(count, np.nan, np.float32)
        return cls(corners, classes, tracks.astype(np.int64), no, no, unknown, masks)

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def pixels(self) -> Bools | None:
        """(M, H, W) bool, the masks as pixels; None where the dataset has none."""
        return self.masks if self.masks is None or isinstance(self.masks, np.ndarray) else self.masks.decode()

    @property
    def runs(self) -> RleMasks | None:
        """The masks as run lengths; None where the dataset has none."""
        from ovvol_bench.masks import RleMasks

        return RleMasks.of(self.masks) if isinstance(self.masks, np.ndarray) else self.masks


@dataclass(frozen=True)
class FrameTable:
    """Truth of F frames with M objects as columns, for datasets of very many frames.

    Attributes:
        offsets: (F + 1,) int64, where a frame's objects lie in the columns.
        boxes, class_ids, track_ids, occluded, generated, motion_iou: as in ``FrameTruth``, of all frames.
        masks: gives the masks of a frame, or None where the dataset has none.
        areas: as in ``FrameTruth``.
        crowds: of the same frames, or None.
        image_ids: (F,) int64 numbers of the frames in their file, which COCO's evaluation goes by, or None.
    """

    offsets: Ints
    boxes: Floats
    class_ids: Ints
    track_ids: Ints
    occluded: Bools
    generated: Bools
    motion_iou: Floats
    masks: Callable[[int], RleMasks] | None = None
    areas: npt.NDArray[np.float64] | None = None
    crowds: FrameTable | None = None
    image_ids: Ints | None = None

    def __getitem__(self, frame: int) -> FrameTruth:
        """The objects of a frame."""
        rows = slice(self.offsets[frame], self.offsets[frame + 1])
        return FrameTruth(
            self.boxes[rows],
            self.class_ids[rows],
            self.track_ids[rows],
            self.occluded[rows],
            self.generated[rows],
            self.motion_iou[rows],
            None if self.masks is None else self.masks(frame),
            None if self.areas is None else self.areas[rows],
            None if self.crowds is None else self.crowds[frame],
        )


class FrameRows(Sequence[FrameTruth]):
    """Some frames of a table: what a clip's truth can be instead of a tuple.

    A frame's truth is made when it is looked at; metrics of boxes read the table itself.

    Attributes:
        table: the columns.
        rows: (T,) frames of the table.
    """

    def __init__(self, table: FrameTable, rows: Sequence[int]) -> None:
        self.table, self.rows = table, rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> FrameTruth: ...
    @overload
    def __getitem__(self, index: slice) -> FrameRows: ...
    def __getitem__(self, index: int | slice) -> FrameTruth | FrameRows:
        """A frame's truth, or a part of the frames."""
        if isinstance(index, slice):
            return FrameRows(self.table, self.rows[index])
        return self.table[self.rows[index]]

    def __reduce__(self) -> tuple[type, tuple[tuple[FrameTruth, ...]]]:
        """Other processes get these frames only, not the table."""
        return tuple, (tuple(self),)


@dataclass(frozen=True)
class ClipInfo:
    """A clip without its pixels: all that evaluation and bookkeeping need.

    A dataset gives one for every clip, cheaply: thousands are asked for before the first frame is decoded.
    Boxes of its truth refer to ``frame_size``, whatever size ``Clip.frames`` have.

    Attributes:
        id: unique in the dataset and stable over runs; seeds the clip's random draws.
        video: id of the video that the clip is cut from.
        frame_indices: (T,) positions of the frames in the video, from 0.
        frame_size: (height, width) of the original frames, pixels.
        truth: one entry a frame, or None where the dataset has no truth.
        context: the first ``context`` frames belong to an earlier clip: models see them, nothing is
            reported or scored for them. Above 0 only for a last clip that was moved back to fit.
        unread: place in the clip of each frame that could not be read, and why: models see the nearest
            readable frame there, nothing is reported or scored for it.
    """

    id: str
    video: str
    frame_indices: tuple[int, ...]
    frame_size: tuple[int, int]
    truth: Sequence[FrameTruth] | None = None
    context: int = 0
    unread: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Clip:
    """T consecutive frames of one video, the unit of work.

    All frames of a run's clips may have sizes of their own; both sides are multiples of the patch size.

    Attributes:
        info: the clip's identity and truth.
        frames: (T, H, W, 3) float32 RGB in [0, 1], resized to the model's input size.
    """

    info: ClipInfo
    frames: Floats


@dataclass(frozen=True)
class Features:
    """Features of a batch of clips.

    Attributes:
        grid: (B, S, h, w, D) space-time grid of feature vectors.
        maps: further maps that the encoder declares, by name; ``keys`` (B, S, h, w, D),
            ``attention`` (B, S, heads, h, w).
    """

    grid: Tensor
    maps: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class SlotMasks:
    """Soft assignment of patches to slots.

    Attributes:
        masks: (B, K, S, h, w), non-negative, sums to 1 over K.
    """

    masks: Tensor


@dataclass(frozen=True)
class Localization:
    """Localization of a clip: N named segments, each a union of slots.

    Attributes:
        boxes: (T, N, 4) float32, pixels of the original frame, ends inclusive; zeros where absent.
        present: (T, N) bool, whether the segment covers any patch of the frame.
        probabilities: (N, C + 1) float32, rows sum to 1; column 0 is the background and stays 0
            unless the vocabulary has a prompt for it.
        slot_map: (T, h, w) int16, the winning slot of every patch.
        segment_of_slot: (K,) int16, the segment in [0, N) that a slot belongs to, -1 if dropped.
        input_size: (height, width) of the resized frames that the models saw, for protocols that
            compare boxes there; None where unknown.
        soft: (T, K, h, w) uint8, the share of every slot in every patch, from the clip's least (0) to its
            largest (255), for metrics that enlarge masks before the winner is taken; None where not kept.
    """

    boxes: Floats
    present: Bools
    probabilities: Floats
    slot_map: npt.NDArray[np.int16]
    segment_of_slot: npt.NDArray[np.int16]
    input_size: tuple[int, int] | None = None
    soft: npt.NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def masks(self) -> Bools:
        """(N, T, h, w) bool: the patches of every segment."""
        segments = self.segment_of_slot[self.slot_map]
        masks: Bools = segments[None] == np.arange(len(self))[:, None, None, None]
        return masks
