"""Contingency tables: how many points true objects and predicted groups share.

Every mask metric is a function of these tables, which are small, so that no metric holds pixels. A
*point* is a pixel or a patch, by the resolution; a *group* a slot or a segment; a *sample* has one table: a
frame, a clip or a video.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Doubles, Ints
from ovvol_bench.errors import ContractError, DataError
from ovvol_bench.masks import bilinear_winners, nearest_cells
from ovvol_bench.metrics.truth import check_shape, no_masks
from ovvol_bench.predictions import ClipPrediction
from ovvol_bench.types import ClipInfo, FrameTruth

Resolution = Literal["frame", "patch"]
Groups = Literal["slots", "segments"]
Upsampling = Literal["nearest", "bilinear"]
Ignore = Literal["nothing", "crowds"]
Identity = Literal["frame", "track", "class"]
GroupMap = npt.NDArray[np.int16] | npt.NDArray[np.int64]

BACKGROUND = 0
"""Row of the points that no true object covers."""
DROPPED = -1
"""Column of the points whose slot naming dropped."""
_SHARED = -1  # label of points that several true objects cover
_IGNORED = -2  # of points in regions that are no objects and no background, such as crowds


@dataclass(frozen=True)
class Overlaps:
    """The non-zero cells of S contingency tables.

    Attributes:
        sample: (E,) int64 in [0, S), the table of each cell.
        truth: (E,) int64, its row: ``BACKGROUND`` or a true object, from 1.
        group: (E,) int64, its column: a predicted group, from 0, or ``DROPPED``.
        points: (E,) int64, points that row and column share, above 0.
        samples: S.
    """

    sample: Ints
    truth: Ints
    group: Ints
    points: Ints
    samples: int

    @classmethod
    def of(cls, cells: Ints, samples: int) -> Overlaps:
        """Make tables of cells (4, E): sample, row, column, points; cells of one place are summed."""
        sample, truth, group, points = cells
        return cls(sample, truth, group, points, samples).summed()

    @cached_property
    def row(self) -> Ints:
        """(E,) number of each cell's row among all rows of all tables."""
        return _numbered(self.sample, self.truth)

    @cached_property
    def column(self) -> Ints:
        """(E,) number of each cell's column among all columns of all tables."""
        return _numbered(self.sample, self.group)

    @cached_property
    def row_sample(self) -> Ints:
        """The table of every row, by its number."""
        return self.sample[np.unique(self.row, return_index=True)[1]]

    @cached_property
    def column_sample(self) -> Ints:
        """The table of every column, by its number."""
        return self.sample[np.unique(self.column, return_index=True)[1]]

    @cached_property
    def row_points(self) -> Ints:
        """Points of every row, by its number."""
        return weighted_counts(self.row, self.points).astype(np.int64)

    @cached_property
    def column_points(self) -> Ints:
        """Points of every column, by its number."""
        return weighted_counts(self.column, self.points).astype(np.int64)

    @cached_property
    def with_objects(self) -> Bools:
        """(S,) bool, tables with at least one point of a true object."""
        objects: Bools = np.bincount(self.sample[self.truth > BACKGROUND], minlength=self.samples) > 0
        return objects

    def keep(self, cells: Bools) -> Overlaps:
        """Return tables of some cells only."""
        chosen = (self.sample[cells], self.truth[cells], self.group[cells], self.points[cells])
        return Overlaps(*chosen, self.samples)

    def foreground(self) -> Overlaps:
        """Return tables without the background's row."""
        return self.keep(self.truth > BACKGROUND)

    def summed(self) -> Overlaps:
        """Join cells of the same place, sorted by sample, row and column."""
        cell = _numbered(self.sample, self.truth, self.group)
        _, first = np.unique(cell, return_index=True)
        places = (self.sample[first], self.truth[first], self.group[first])
        return Overlaps(*places, weighted_counts(cell, self.points).astype(np.int64), self.samples)

    def mean_over_rows(self, values: Doubles) -> Doubles:
        """(S,) mean of the values of each table's rows, by their number; NaN where there are none."""
        rows = np.bincount(self.row_sample, minlength=self.samples)
        sums = weighted_counts(self.row_sample, values, self.samples)
        return np.where(rows > 0, sums / np.maximum(rows, 1), np.nan)


@dataclass(frozen=True)
class ClipTable:
    """The tables of one clip, one a frame, and what they leave out.

    Attributes:
        video: id of the clip's video.
        overlaps: tables of the clip's own frames.
        columns: number of groups.
        shared: points that several true objects cover: left out, since tables need each in one row.
        unseen: true objects, one a frame, without a point: too small for the resolution, or shared.
        ignored: points in crowds, where these are left out.
    """

    video: str
    overlaps: Overlaps
    columns: int
    shared: int
    unseen: int
    ignored: int = 0


def clip_table(
    clip: ClipPrediction,
    groups: Groups,
    resolution: Resolution,
    identity: Identity,
    upsampling: Upsampling = "nearest",
    ignore: Ignore = "nothing",
) -> ClipTable:
    """Count the points that the true objects and the groups of a clip share.

    Args:
        clip: with truth and without context frames.
        groups: compare all slots, or the segments that naming made of them.
        resolution: ``frame``: pixels of the original frame, each in the patch that its centre lies in.
            ``patch``: patches, each of the object that the pixel at its centre belongs to.
        identity: of rows: an object of a ``frame``, a ``track`` over frames, or a ``class``.
        upsampling: whether a pixel's slot is that of its patch, or (``bilinear``) the winner of the soft
            masks enlarged to the frame.
        ignore: whether points in crowds are left out.

    Raises:
        ContractError: if the slot map doesn't fit the clip or its slots.
        DataError: if masks are missing or of another size, a track is unknown, or soft masks weren't kept.
    """
    found = clip.localization
    check_slots(clip)
    columns = len(found) if groups == "segments" else len(found.segment_of_slot)
    maps: Iterable[GroupMap] = found.slot_map
    if upsampling == "bilinear":
        if found.soft is None:
            raise DataError(
                f"clip '{clip.info.id}' was stored without soft masks, which upsampling=bilinear needs. Run "
                "it again with --soft-masks --overwrite always"
            )
        maps = (bilinear_winners(shares, clip.info.frame_size) for shares in found.soft)
    if groups == "segments":
        maps = (found.segment_of_slot[slots] for slots in maps)
    return frames_table(true_frames(clip.info), maps, columns, resolution, identity, ignore)


def check_slots(clip: ClipPrediction) -> None:
    """Refuse a slot map that doesn't fit its clip.

    Raises:
        ContractError: if there is none, or it has another number of frames or unknown slots.
    """
    slot_map, slots = clip.localization.slot_map, len(clip.localization.segment_of_slot)
    frames = len(clip.info.frame_indices)
    if slot_map.ndim != 3 or len(slot_map) != frames or not slot_map.size:
        raise ContractError(
            f"clip '{clip.info.id}': slot map of shape {slot_map.shape}; expected ({frames}, rows, columns). "
            "Mask metrics need to know the slot of every patch"
        )
    if slot_map.min() < 0 or slot_map.max() >= slots:
        raise ContractError(
            f"clip '{clip.info.id}': slot map with values {slot_map.min()} to {slot_map.max()}; expected 0 "
            f"to {slots - 1}, the clip's slots"
        )


@dataclass(frozen=True)
class TrueFrame:
    """The true objects of one frame and where they are, for messages.

    Attributes:
        clip: that the frame is in.
        index: position of the frame in the video.
        objects: in it.
    """

    clip: ClipInfo
    index: int
    objects: FrameTruth

    def __str__(self) -> str:
        return f"clip '{self.clip.id}', frame {self.index}"

    def masks(self) -> Bools:
        """(M, H, W) masks of the objects."""
        masks = self.objects.pixels
        if masks is None:
            raise no_masks(str(self))
        check_shape(masks.shape, (len(self.objects), *self.clip.frame_size), str(self))
        return masks

    def crowds(self) -> Bools:
        """(H, W) points in regions that stand for crowds, or for objects that nobody annotated."""
        crowds = self.objects.crowds
        if crowds is None or not len(crowds):
            return np.zeros(self.clip.frame_size, np.bool_)
        regions: Bools = np.any(TrueFrame(self.clip, self.index, crowds).masks(), axis=0)
        return regions

    def names(self, identity: Identity) -> Ints:
        """(M + 1,) row of each label of the frame in the tables."""
        if identity == "frame":
            return np.arange(len(self.objects) + 1)
        if identity == "class":
            return np.concatenate([[BACKGROUND], self.objects.class_ids])
        if (self.objects.track_ids < 0).any():
            raise DataError(
                f"clip '{self.clip.id}': the truth has objects of unknown track, so their masks can't be "
                "joined over frames. Score images instead: -o metric.unit=image"
            )
        return np.concatenate([[BACKGROUND], self.objects.track_ids + 1])


def true_frames(clip: ClipInfo) -> list[TrueFrame]:
    """Return the frames of a clip.

    Raises:
        DataError: if there is truth of another number of frames.
    """
    truth = clip.truth or ()
    if len(truth) != len(clip.frame_indices):
        raise DataError(f"clip '{clip.id}': truth of {len(truth)} frames; expected {len(clip.frame_indices)}")
    return [TrueFrame(clip, *each) for each in zip(clip.frame_indices, truth, strict=True)]


def frames_table(
    frames: Sequence[TrueFrame],
    maps: Iterable[GroupMap],
    columns: int,
    resolution: Resolution,
    identity: Identity,
    ignore: Ignore = "nothing",
) -> ClipTable:
    """Count the points that true objects and groups share in some frames of one video.

    Args:
        frames: at least one.
        maps: for each frame (h, w), the group in [0, ``columns``) of each patch, or ``DROPPED``.
        columns: number of groups.
        resolution: see `clip_table`.
        identity: see `clip_table`.
        ignore: see `clip_table`.

    Raises:
        DataError: if masks are missing or of another size, or a track is unknown.
    """
    cells, shared, unseen, ignored = [], 0, 0, 0
    for number, (frame, patches) in enumerate(zip(frames, maps, strict=True)):
        masks, size = frame.masks(), patches.shape
        if resolution == "patch":
            down, across = (nearest_cells(*each) for each in zip(frame.clip.frame_size, size, strict=True))
            labels, members = label_map(masks[:, down[:, None], across]), patches
        else:
            down, across = (nearest_cells(*each) for each in zip(size, frame.clip.frame_size, strict=True))
            labels, members = label_map(masks), patches[down[:, None], across]
        if ignore == "crowds":
            crowds = frame.crowds()
            labels[crowds[down[:, None], across] if resolution == "patch" else crowds] = _IGNORED
        # Counts of all pairs of a row and a column, of which the non-zero ones are cells.
        counted, width = labels >= BACKGROUND, columns + 1
        counts = np.bincount(labels[counted] * width + members[counted] - DROPPED)
        pairs = np.flatnonzero(counts)
        rows, group = np.divmod(pairs, width)
        names = frame.names(identity)
        cells.append(np.stack([np.full_like(rows, number), names[rows], group + DROPPED, counts[pairs]]))
        shared += int((labels == _SHARED).sum())
        ignored += int((labels == _IGNORED).sum())
        unseen += len(frame.objects) - len(np.unique(rows[rows > BACKGROUND]))
    overlaps = Overlaps.of(np.concatenate(cells, axis=1), len(frames))
    return ClipTable(frames[0].clip.video, overlaps, columns, shared, unseen, ignored)


def label_map(masks: Bools) -> Ints:
    """Lay masks on one map.

    Args:
        masks: (M, h, w) bool.

    Returns:
        (h, w) int64: 0 where there is no object, i + 1 for object i, -1 where there are several.

    >>> label_map(np.array([[[True, True, False]], [[False, True, False]]]))
    array([[ 1, -1,  0]])
    """
    size = masks.shape[1] * masks.shape[2]
    thing, point = np.divmod(np.flatnonzero(masks), max(size, 1))
    labels = np.zeros(size, np.int64)
    labels[point] = thing + 1
    labels[np.bincount(point, minlength=size) > 1] = _SHARED
    return labels.reshape(masks.shape[1:])


def weighted_counts(numbers: Ints, weights: Ints | Doubles, length: int = 0) -> Doubles:
    """Sum the weights of every number from 0, at least ``length`` of them.

    Integers come out exact, as no sum comes near 2 ** 53.
    """
    return np.bincount(numbers, weights=weights, minlength=length).astype(np.float64)


def _numbered(*keys: Ints) -> Ints:
    """(E,) number of each cell's combination of keys, in sorted order from 0."""
    order = np.lexsort(keys[::-1])
    changes = np.zeros(len(order), np.int64)
    for key in keys:
        changes[1:] |= key[order][1:] != key[order][:-1]
    numbers = np.empty_like(changes)
    numbers[order] = np.cumsum(changes)
    return numbers
