"""Base of the mask metrics: from clips or detections to contingency tables, from tables to means."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Ints, offsets_of
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.metrics.base import MetricValue, RecordMetric
from ovvol_bench.metrics.contingency import (
    DROPPED,
    ClipTable,
    Groups,
    Identity,
    Ignore,
    Overlaps,
    Resolution,
    Upsampling,
    clip_table,
    frames_table,
    true_frames,
)
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tubes import check_tracks, samples_of
from ovvol_bench.predictions import ClipPrediction
from ovvol_bench.registry import FromPredictions
from ovvol_bench.types import ClipInfo

Unit = Literal["image", "clip", "video"]


class MaskMetric(RecordMetric):
    """A metric on contingency tables of true masks and groups.

    The protocol says what is compared where, for example ``slots-frame``; the unit is part of the numbers'
    names. Conventions that published evaluations differ in are in ``docs/metrics.md``; the defaults leave the
    protocol's id as it is.

    Args:
        unit: has one table: an image, a clip or a video.
        groups: slots, or the segments that naming made of them.
        resolution: pixels of the original frame, or patches.
        upsampling: whether a pixel belongs to the slot of its patch, or to the winner of the soft masks
            enlarged to the frame (VideoSAUR, SlotContrast, SOLV, RandSF.Q, DINOSAUR).
        ignore: whether points in crowds (``FrameTruth.crowds``) are left out, as evaluations with an ignore
            mask do (COCO's crowds, VOC's void), or are what objects and background make of them.

    Attributes:
        name: of the metric in messages.
        identity: of an object of a clip or video.
    """

    averages = True
    name: ClassVar[str]
    identity: Identity = "track"
    background: Literal["ignored", "object"] = "ignored"
    empty: Literal["dropped", "one"] = "dropped"
    iou: Literal["volume", "frames"] = "volume"

    def __init__(
        self,
        *,
        unit: Unit = "clip",
        groups: Annotated[Groups, FromPredictions("groups")] = "slots",
        resolution: Resolution = "frame",
        upsampling: Upsampling = "nearest",
        ignore: Ignore = "nothing",
    ) -> None:
        if upsampling == "bilinear" and resolution == "patch":
            raise SettingError("upsampling=bilinear enlarges masks to the frame; expected resolution=frame")
        marks = {
            "-bilinear": upsampling == "bilinear",
            "-background": self.background == "object",
            "-empty1": self.empty == "one",
            "-nocrowds": ignore == "crowds",
            "-perframe": self.iou == "frames",
        }
        super().__init__(f"{groups}-{resolution}{''.join(mark for mark, holds in marks.items() if holds)}")
        self.unit = unit
        self.groups, self.resolution = groups, resolution
        self.upsampling, self.ignore = upsampling, ignore
        # Images have no tracks: their objects are those of a frame.
        self.row: Identity = "frame" if unit == "image" and self.identity == "track" else self.identity
        self.needs = frozenset({"masks", "true masks"})
        self.needs |= {"tracks"} if unit != "image" else set()
        self.needs |= {"true tracks"} if self.row == "track" else set()
        self.needs |= set() if self._of_pixels else {"slots"}
        self.needs |= {"soft masks"} if upsampling == "bilinear" else set()

    @property
    def _of_pixels(self) -> bool:
        """Tell whether groups are segments in pixels, as other programs' masks are."""
        return self.groups == "segments" and self.resolution == "frame" and self.upsampling == "nearest"

    @abstractmethod
    def score(self, overlaps: Overlaps) -> Mapping[str, Doubles]:
        """Compute the metric's numbers: (S,) values by table, NaN where undefined."""

    def score_tables(self, tables: Sequence[ClipTable], overlaps: Overlaps) -> Mapping[str, Doubles]:
        """Compute the values to average, of clips' tables frame by frame, and of them joined by the unit."""
        return self.score(overlaps)

    def check_truth(self, clip: ClipInfo) -> None:
        if clip.truth is None:
            raise DataError(
                f"clip '{clip.id}' has no truth; {self.name} needs a dataset with true masks, as shapes has"
            )

    def record(self, clip: ClipPrediction) -> ClipTable:
        with self._named():
            return clip_table(clip, self.groups, self.resolution, self.row, self.upsampling, self.ignore)

    def compute(self) -> Mapping[str, MetricValue]:
        """Compute means over images, clips or videos that show an object; NaN where there is none."""
        return self._conclude(self.in_order())

    def score_detections(self, detections: Detections, table: TruthTable) -> Mapping[str, MetricValue]:
        """Compute the metric's numbers on the masks of another program's detections.

        Raises:
            SettingError: if the metric is of slots or patches, which detections don't have.
            DataError: if masks or tracks are missing, or masks are of another size.
        """
        if not self._of_pixels:
            raise SettingError(
                f"{self.name} under {self.protocol} looks at slot maps, which detections don't have. Score "
                "their masks: -o metric.groups=segments -o metric.resolution=frame"
            )
        with self._named():
            return self._conclude(list(detection_tables(detections, table, self.unit, self.row, self.ignore)))

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Name the metric in errors of the data."""
        try:
            yield
        except DataError as error:
            raise DataError(f"{self.name}: {error}") from error

    def _conclude(self, tables: Sequence[ClipTable]) -> Mapping[str, MetricValue]:
        overlaps = join(tables, self.unit)
        objects = np.bincount(overlaps.foreground().row_sample, minlength=overlaps.samples)
        notes = {
            "without_objects": int((objects == 0).sum()),
            "single_object": int((objects == 1).sum()),
            "shared_points": sum(table.shared for table in tables),
            "unseen_objects": sum(table.unseen for table in tables),
        }
        if self.ignore == "crowds":
            notes["ignored_points"] = sum(table.ignored for table in tables)
        scores = self.score_tables(tables, overlaps)
        return {f"{name}_{self.unit}": mean_value(values, notes) for name, values in scores.items()}


def join(tables: Sequence[ClipTable], unit: Unit) -> Overlaps:
    """Join the tables of clips to tables of images, clips or videos.

    Groups of different clips are different groups, also in one video: nothing says which slot of a
    clip goes on as which of the next. Points that were dropped are one column in all of them.
    """
    samples, sample_of_clip = samples_of_clips(tables, unit)
    parts = [np.zeros((4, 0), np.int64)]
    columns = 0
    for table, sample in zip(tables, sample_of_clip, strict=True):
        cells = table.overlaps
        group = np.where(cells.group == DROPPED, DROPPED, cells.group + columns)
        place = sample + cells.sample if unit == "image" else np.full_like(cells.sample, sample)
        parts.append(np.stack([place, cells.truth, group, cells.points]))
        columns += table.columns
    return Overlaps.of(np.concatenate(parts, axis=1), samples)


def samples_of_clips(tables: Sequence[ClipTable], unit: Unit) -> tuple[int, list[int]]:
    """Return the number of samples, and the first one of every clip."""
    if unit == "image":
        ends = np.cumsum([0, *(table.overlaps.samples for table in tables)]).tolist()
        return ends[-1], ends[:-1]
    if unit == "clip":
        return len(tables), list(range(len(tables)))
    videos = {video: index for index, video in enumerate(dict.fromkeys(table.video for table in tables))}
    return len(videos), [videos[table.video] for table in tables]


def mean_value(values: Sequence[float] | Doubles, notes: Mapping[str, Any] | None = None) -> MetricValue:
    """Return the mean of the values that are no NaN, and their number."""
    defined = np.asarray(values, np.float64)
    defined = defined[~np.isnan(defined)]
    mean = float(defined.mean()) if len(defined) else math.nan
    return MetricValue(mean, len(defined), notes or {})


def detection_tables(
    detections: Detections, table: TruthTable, unit: Unit, identity: Identity, ignore: Ignore = "nothing"
) -> Iterator[ClipTable]:
    """Yield the tables of each clip, or of each video where tracks go through it.

    A pixel belongs to the detection of the highest score whose mask covers it, the first of equals, and to
    no group where none does.

    Args:
        detections: with masks, in the frames of the table.
        table: truth of clips in order, with masks.
        unit: in images a detection is a group, in clips and videos a track.
        identity: of rows, see ``contingency.clip_table``.
        ignore: whether points in crowds are left out.

    Raises:
        DataError: if masks or tracks are missing, or masks are of another size.
    """
    if unit != "image":
        check_tracks(detections)
    frames = [frame for info in table.infos for frame in true_frames(info)]
    samples = samples_of(table, "video" if unit == "video" else "clip")
    bounds, starts = offsets_of(np.bincount(samples)), offsets_of(detections.counts)
    for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        rows = np.arange(starts[first], starts[end])
        groups = rows if unit == "image" else detections.tracks[rows]
        names, numbers = np.unique(groups, return_inverse=True)
        parts = np.split(np.stack([rows, numbers]), starts[first + 1 : end] - starts[first], axis=1)
        maps = (_group_map(detections, first + place, *part) for place, part in enumerate(parts))
        yield frames_table(frames[first:end], maps, len(names), "frame", identity, ignore)


def _group_map(detections: Detections, frame: int, rows: Ints, groups: Ints) -> Ints:
    """(H, W) group of each pixel of a frame, ``DROPPED`` where no mask is.

    Args:
        detections: with masks.
        frame: its number.
        rows: (N,) the frame's detections.
        groups: (N,) theirs.
    """
    height, width = detections.frames.sizes[detections.frames.video[frame]].tolist()
    order = np.argsort(-detections.scores[rows], kind="stable")
    masks = detections.masks_of(rows[order], (height, width)).decode()
    if not len(masks):
        return np.full((height, width), DROPPED)
    covering: Ints = np.where(masks.any(axis=0), groups[order][masks.argmax(axis=0)], DROPPED)
    return covering
