"""Detections as columns: boxes with one class and one score each, as any other program's files hold them.

Our own ``Predictions`` score every segment for all classes and know the slot of every patch; files of other
methods say less. Metrics that compare boxes, masks or tracks read this common form. Imports numpy only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np

from ovvol_bench.arrays import Bools, Doubles, Floats, Ints
from ovvol_bench.errors import DataError
from ovvol_bench.masks import RleMasks, nearest_cells
from ovvol_bench.predictions import ClipPrediction, Predictions, own_frames
from ovvol_bench.types import ClipInfo

Labels = Literal["all", "top1"]

ABSENT = (0, 0, -1, -1)  # box of a segment that its frame doesn't show: without width and height


@dataclass(frozen=True)
class Frames:
    """Frames of V videos, F in all, that detections may be about, video by video, each once.

    Attributes:
        videos: (V,) names.
        sizes: (V, 2) int64, (height, width) of the original frames, pixels.
        video: (F,) int64 in [0, V), ascending.
        index: (F,) int64, position in the video, from 0; ascending within a video.
    """

    videos: tuple[str, ...]
    sizes: Ints
    video: Ints
    index: Ints

    @classmethod
    def of(cls, infos: Iterable[ClipInfo]) -> Frames:
        """List the frames of clips, in the order of ``in_order``; context frames belong to another clip.

        Raises:
            DataError: if a frame is in two clips, or a video's frames change their size.
        """
        own = in_order(infos)
        videos: dict[str, tuple[int, tuple[int, int]]] = {}
        for info in own:
            _, size = videos.setdefault(info.video, (len(videos), info.frame_size))
            if size != info.frame_size:
                raise DataError(
                    f"video '{info.video}': frames of {size} and {info.frame_size}; expected one size"
                )
        lengths = [len(info.frame_indices) for info in own]
        frames = cls(
            tuple(videos),
            np.array([size for _, size in videos.values()], np.int64).reshape(-1, 2),
            np.repeat(np.array([videos[info.video][0] for info in own], np.int64), lengths),
            np.array([index for info in own for index in info.frame_indices], np.int64),
        )
        again = np.flatnonzero((np.diff(frames.video) == 0) & (np.diff(frames.index) <= 0))
        if len(again):
            raise DataError(
                f"{frames.name(int(again[0]) + 1)} is in two clips; expected every frame once. Choose "
                "a sampling whose clips don't overlap"
            )
        return frames

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def video_row(self) -> dict[str, int]:
        """Position of each video, by name."""
        return {name: row for row, name in enumerate(self.videos)}

    def rows(self, video: Ints, index: Ints) -> Ints:
        """Return the (N,) frame at each pair of a video in [0, V) and a position; -1 where there is none."""
        if not len(self):
            return np.full(len(video), -1)
        stride = int(max(self.index.max(), index.max(initial=0))) + 1
        keys, wanted = self.video * stride + self.index, video * stride + index
        place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return np.where((keys[place] == wanted) & (index >= 0), place, -1)

    def name(self, row: int) -> str:
        """Return the name of a frame in messages."""
        return f"frame {self.index[row]} of video '{self.videos[self.video[row]]}'"


@dataclass(frozen=True)
class Detections:
    """D detections in F frames, frame by frame, in each frame in the order they came.

    Attributes:
        frames: all frames that were looked at, those without a detection too.
        frame: (D,) int64 in [0, F), ascending.
        boxes: (D, 4) pixels of the original frame, ends inclusive; float32 in our own, float64 as files say.
        class_ids: (D,) int64 in [0, C]; 0: of no class.
        scores: (D,) float64, finite.
        tracks: (D,) int64, unique within the video, -1 where unknown.
        classes: C.
        masks: (D,) run lengths at the frame's size (see ``RleMasks``), or None where there are none.
    """

    frames: Frames
    frame: Ints
    boxes: Floats | Doubles
    class_ids: Ints
    scores: Doubles
    tracks: Ints
    classes: int
    masks: tuple[bytes, ...] | None = None

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def counts(self) -> Ints:
        """Number of detections of each frame, (F,) int64."""
        return np.bincount(self.frame, minlength=len(self.frames))

    @cached_property
    def video(self) -> Ints:
        """Video of each detection, (D,) int64 in [0, V)."""
        return self.frames.video[self.frame]

    def keep(self, rows: Ints | Bools) -> Detections:
        """Keep some of the detections, in the order of the frames whatever order they are given in.

        Args:
            rows: (N,) positions, or (D,) bool.
        """
        chosen = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        chosen = chosen[np.argsort(self.frame[chosen], kind="stable")]
        columns: dict[str, Any] = {
            field.name: getattr(self, field.name)[chosen]
            for field in fields(self)
            if field.name not in ("frames", "classes", "masks")
        }
        masks = None if self.masks is None else tuple(self.masks[row] for row in chosen.tolist())
        return replace(self, **columns, masks=masks)

    @cached_property
    def absent(self) -> Bools:
        """Detections that stand for a segment that its frame doesn't show, (D,)."""
        absent: Bools = (self.boxes == ABSENT).all(axis=1)
        return absent

    @cached_property
    def score_table(self) -> Doubles | None:
        """Scores (B, C + 1) of B boxes, each of which comes once for every class, in order; else None.

        The classes may begin with 0 or with 1; the scores of class 0 are 0 then.
        """
        for first in (0, 1):
            width = self.classes + 1 - first
            if width < 2 or not len(self) or len(self) % width:
                continue
            rows = np.column_stack([self.frame, self.boxes]).reshape(-1, width, 5)
            classes = self.class_ids.reshape(-1, width)
            if (classes == np.arange(first, width + first)).all() and (rows == rows[:, :1]).all():
                table = np.zeros((len(rows), self.classes + 1))
                table[:, first:] = self.scores.reshape(-1, width)
                return table
        return None

    def labelled(self, labels: Labels) -> Detections:
        """Keep what a metric asks for of boxes that come once for every class; others stay as they are.

        Args:
            labels: see ``detections_of``. Class 0 and segments that aren't shown are left out.
        """
        if self.score_table is None:
            return self
        shown = ~self.absent
        if labels == "all":
            return self.keep(shown & (self.class_ids > 0))
        best = self.score_table[:, 1:].argmax(axis=1) + 1
        return self.keep(shown & (self.class_ids == best.repeat(len(self) // len(best))))

    def of_video(self, name: str) -> Detections:
        """Keep the detections in the frames of one video."""
        row = self.frames.video_row[name]
        first, last = np.searchsorted(self.frames.video, [row, row + 1]).tolist()
        start, end = np.searchsorted(self.frame, [first, last]).tolist()
        index = self.frames.index[first:last]
        frames = Frames((name,), self.frames.sizes[row : row + 1], np.zeros(len(index), np.int64), index)
        found = self.keep(np.arange(start, end))
        return replace(found, frames=frames, frame=found.frame - first)

    @property
    def runs(self) -> tuple[bytes, ...]:
        """Run lengths of the masks, (D,).

        Raises:
            DataError: if the detections have no masks.
        """
        if self.masks is None:
            raise DataError("the predictions have boxes but no masks; expected a format with masks")
        return self.masks

    def masks_of(self, rows: Ints, size: tuple[int, int]) -> RleMasks:
        """Return the masks of some detections of one video.

        Raises:
            DataError: if the detections have no masks.
        """
        runs = self.runs
        return RleMasks(size, tuple(runs[row] for row in rows.tolist()))


def in_order(infos: Iterable[ClipInfo]) -> list[ClipInfo]:
    """Sort clips without context frames by video in order of appearance and then by first frame."""
    own = [own_frames(info) for info in infos]
    place = {name: row for row, name in enumerate(dict.fromkeys(info.video for info in own))}
    return sorted(own, key=lambda info: (place[info.video], info.frame_indices[0]))


def detections_of(
    predictions: Predictions,
    frames: Frames,
    labels: Labels = "top1",
    masks: bool = False,
    complete: bool = False,
) -> Detections:
    """Turn our own predictions into detections; a segment is a track of its own in its clip.

    Args:
        predictions: of any clips.
        frames: those to look at; must hold all frames of the predictions.
        labels: ``top1``: each box once, under its best foreground class (the first of equals) and
            that class's probability. ``all``: each box once for every foreground class.
        masks: whether to make masks of the slot maps: nearest neighbour at the frame's size.
        complete: with what ``vid-reference`` alone counts: class 0, where it has probability, and segments
            that a frame of their clip doesn't show, as ``ABSENT``.

    Returns:
        Detections in the frames given; without ``complete`` of shown segments under foreground classes.

    Raises:
        DataError: if a frame of the predictions is not among those given.
    """
    shown = np.arange(len(predictions.present)) if complete else np.flatnonzero(predictions.present)
    first = 0 if complete and predictions.probabilities[:, :1].any() else 1
    frame = _frame_of_box(predictions, frames)[shown]
    segment = predictions.segment_of_box[shown]
    scores = predictions.probabilities[segment, first:].astype(np.float64)
    classes = predictions.classes
    class_ids = np.broadcast_to(np.arange(first, classes + 1), scores.shape)
    if labels == "top1" and classes:
        best = scores.argmax(axis=1)[:, None]
        scores, class_ids = np.take_along_axis(scores, best, 1), best + first
    repeats = scores.shape[1]
    boxes = np.where(predictions.present[shown, None], predictions.boxes[shown], np.array(ABSENT, np.float32))
    runs = None
    if masks:
        every = np.array([counts for clip in predictions for counts in _clip_runs(clip)], object)
        runs = tuple(every[shown].repeat(repeats).tolist())
    found = Detections(
        frames,
        frame.repeat(repeats),
        boxes.repeat(repeats, axis=0),
        class_ids.ravel().astype(np.int64),
        scores.ravel(),
        segment.repeat(repeats),
        classes,
        runs,
    )
    return found.keep(np.arange(len(found)))


def _frame_of_box(predictions: Predictions, frames: Frames) -> Ints:
    """Return the (B,) row of ``frames`` that each box of predictions lies in."""
    unknown = [video for video in predictions.videos if video not in frames.video_row]
    if unknown:
        raise DataError(f"video '{unknown[0]}' has predictions but is not in the dataset")
    video = np.array([frames.video_row[video] for video in predictions.videos], np.int64)
    rows = frames.rows(np.repeat(video, predictions.frame_counts), predictions.frame_indices)
    if (rows < 0).any():
        wrong = int(np.flatnonzero(rows < 0)[0])
        clip = int(np.searchsorted(np.cumsum(predictions.frame_counts), wrong, side="right"))
        raise DataError(
            f"clip '{predictions.clip_ids[clip]}': frame {predictions.frame_indices[wrong]} has a prediction "
            "but is not in the dataset. Were the predictions made with another split or clip length?"
        )
    return np.repeat(rows, np.repeat(predictions.segment_counts, predictions.frame_counts))


def _clip_runs(clip: ClipPrediction) -> Sequence[bytes]:
    """Return the run lengths of a clip's segments at the frame's size, frame by frame."""
    found, (height, width) = clip.localization, clip.info.frame_size
    rows = nearest_cells(found.slot_map.shape[1], height)[:, None]
    columns = nearest_cells(found.slot_map.shape[2], width)
    segments = found.segment_of_slot[found.slot_map]
    names = np.arange(len(found))[:, None, None]
    masks = (frame[rows, columns][None] == names for frame in segments)
    return [counts for mask in masks for counts in RleMasks.of(mask).counts]
