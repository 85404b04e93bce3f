"""Tracks as tubes through space and time, and how much they overlap.

Two tubes share, over the frames of a sample, what their boxes or masks share in each frame; a frame
that only one of them is in counts against them (YouTube-VIS, arXiv 1905.04804, section 3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ovvol_bench.arrays import Doubles, Floats, Ints, all_pairs, offsets_of
from ovvol_bench.detections import Detections
from ovvol_bench.errors import DataError
from ovvol_bench.masks import RleMasks
from ovvol_bench.metrics.base import IouType
from ovvol_bench.metrics.truth import TruthTable

Unit = Literal["clip", "video"]

_AT_ONCE = 1 << 14
"""Pairs of boxes whose intermediate arrays stay in a processor's cache."""


@dataclass(frozen=True)
class Items:
    """I boxes or masks, frame by frame.

    Attributes:
        frame: (I,) int64, ascending.
        sample: (I,) int64, ascending, the clip or video of the frame.
        tracks: (I,) int64.
        classes: (I,) int64.
        scores: (I,) float64.
        areas: (I,) float64, square pixels.
        said: (I,) float64, square pixels as annotations say, else as ``areas``.
    """

    frame: Ints
    sample: Ints
    tracks: Ints
    classes: Ints
    scores: Doubles
    areas: Doubles
    said: Doubles


def samples_of(table: TruthTable, unit: Unit) -> Ints:
    """(F,) the clip or the video of each frame, numbered in order."""
    names = table.videos if unit == "video" else range(len(table))
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.repeat(np.array([numbers[name] for name in names], np.int64), table.frame_counts)


def found_items(detections: Detections, samples: Ints, iou_type: IouType) -> Items:
    """Take detections as items.

    Args:
        detections: with tracks.
        samples: (F,) the sample of each frame.
        iou_type: whose area counts.

    Raises:
        DataError: if a detection has no track.
    """
    check_tracks(detections)
    if iou_type == "box":
        areas = _box_areas(detections.boxes)
    else:
        areas = RleMasks((0, 0), detections.runs).areas().astype(np.float64)
    places = (detections.frame, samples[detections.frame])
    return Items(*places, detections.tracks, detections.class_ids, detections.scores, areas, areas)


def true_items(table: TruthTable, samples: Ints, iou_type: IouType) -> Items:
    """Take true objects as items.

    Raises:
        DataError: if an object is of unknown track, or masks are missing or of another size.
    """
    unknown = np.flatnonzero(table.tracks < 0)
    if len(unknown):
        frame = int(table.frame[unknown[0]])
        where = f"clip '{table.clip_of(frame).id}', frame {table.frame_indices[frame]}"
        raise DataError(
            f"{where}: the truth has an object of unknown track; expected a dataset that knows tracks"
        )
    if iou_type == "box":
        areas = _box_areas(table.boxes)
    else:
        parts = [table.runs(frame).areas() for frame in range(len(table.truths))]
        areas = np.concatenate([np.zeros(0), *parts])
    places = (table.frame, samples[table.frame])
    said = np.where(np.isnan(table.areas), areas, table.areas)
    return Items(*places, table.tracks, table.classes, np.ones(len(areas)), areas, said)


def with_tracks(crowds: TruthTable) -> TruthTable:
    """Give each crowd of unknown track a track of its own."""
    alone = np.arange(len(crowds.tracks)) + 1 + crowds.tracks.max(initial=0)
    return replace(crowds, tracks=np.where(crowds.tracks < 0, alone, crowds.tracks))


@dataclass(frozen=True)
class Tubes:
    """N tubes made of I items, each a box or mask in one frame, in S samples: clips or videos.

    Attributes:
        of_item: (I,) int64 in [0, N).
        sample: (N,) int64 in [0, S), ascending; in a sample in the order in which they begin.
        classes: (N,) int64.
        scores: (N,) float64, mean over the items.
        volume: (N,) float64, area summed over the items.
        area: (N,) float64, mean over the items that have one.
        samples: S.
    """

    of_item: Ints
    sample: Ints
    classes: Ints
    scores: Doubles
    volume: Doubles
    area: Doubles
    samples: int

    @classmethod
    def of(cls, items: Items, samples: int, class_agnostic: bool) -> Tubes:
        """Make one tube for each track (and class, unless classes play no part) of each sample."""
        apart = np.zeros_like(items.classes) if class_agnostic else items.classes
        key = np.stack([items.sample, items.tracks, apart])
        _, first, inverse = np.unique(key, axis=1, return_index=True, return_inverse=True)
        order = np.lexsort((first, items.sample[first]))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        of_item, first = place[inverse.reshape(-1)], first[order]
        shown = np.bincount(of_item[items.said > 0], minlength=len(first))
        return cls(
            of_item,
            items.sample[first],
            items.classes[first],
            _means(of_item, items.scores, len(first)),
            _sums(of_item, items.areas, len(first)),
            _sums(of_item, items.said, len(first)) / np.maximum(shown, 1),
            samples,
        )

    def __len__(self) -> int:
        return len(self.sample)

    @property
    def starts(self) -> Ints:
        """(S + 1,) where the tubes of each sample start."""
        return offsets_of(np.bincount(self.sample, minlength=self.samples))


def check_tracks(detections: Detections) -> None:
    """Refuse detections without tracks.

    Raises:
        DataError: naming the frame of the first.
    """
    unknown = np.flatnonzero(detections.tracks < 0)
    if len(unknown):
        where = detections.frames.name(int(detections.frame[unknown[0]]))
        raise DataError(
            f"detection in {where} has no track; expected "
            "one for every detection. Score it without tracks, or choose a format that has them"
        )


def check_distinct(detections: Detections, tubes: Tubes) -> None:
    """Refuse a track that is in two places at once.

    Raises:
        DataError: naming the frame and the track.
    """
    key = np.stack([detections.frame, tubes.of_item])
    _, first, counts = np.unique(key, axis=1, return_index=True, return_counts=True)
    twice = first[counts > 1]
    if len(twice):
        row = int(twice.min())
        where = detections.frames.name(int(detections.frame[row]))
        raise DataError(
            f"{where}: track {detections.tracks[row]} has several detections; expected one in a frame"
        )


def tube_overlaps(
    detections: Detections, table: TruthTable, found: Tubes, truth: Tubes, iou_type: IouType
) -> list[Doubles]:
    """Compute the intersection over union of all tubes of each sample.

    Returns:
        For each of S samples (N, M) float64, its found tubes by its true ones.
    """
    item, thing = all_pairs(detections.counts, table.counts)
    if iou_type == "box":
        shared = shared_by_boxes(detections.boxes, item, table.boxes, thing)
    else:
        shared = shared_by_masks(detections, table)
    key = found.of_item[item] * max(len(truth), 1) + truth.of_item[thing]
    places, inverse = np.unique(key, return_inverse=True)
    shared = _sums(inverse, shared, len(places))
    rows, columns = np.divmod(places, max(len(truth), 1))
    union = found.volume[rows] + truth.volume[columns] - shared
    overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    corners = np.stack([found.starts, truth.starts], axis=1)
    cells = np.split(np.arange(len(places)), np.searchsorted(rows, found.starts[1:-1]))
    tables = [np.zeros(size) for size in np.diff(corners, axis=0)]
    # Without any sample numpy still splits nothing into one part.
    for table_of_sample, own, (row, column) in zip(tables, cells, corners[:-1], strict=False):
        table_of_sample[rows[own] - row, columns[own] - column] = overlap[own]
    return tables


def shared_by_boxes(first: Floats | Doubles, rows: Ints, second: Floats | Doubles, others: Ints) -> Doubles:
    """Compute the area that pairs of boxes share; ends are inclusive.

    Args:
        first: (N, 4).
        rows: (P,) the box of the first set in each pair.
        second: (M, 4).
        others: (P,) the box of the second set in each pair.

    Returns:
        (P,) float64, square pixels.
    """
    one, two, shared = first.astype(np.float64), second.astype(np.float64), np.empty(len(rows))
    for start in range(0, len(rows), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        left, right = one[rows[part]], two[others[part]]
        sides = np.minimum(left[:, 2:], right[:, 2:]) - np.maximum(left[:, :2], right[:, :2]) + 1
        np.maximum(sides, 0, out=sides)
        np.multiply(sides[:, 0], sides[:, 1], out=shared[part])
    return shared


def shared_by_masks(detections: Detections, table: TruthTable) -> Doubles:
    """Compute the area that the masks of all pairs of a detection and a true object of its frame share.

    Returns:
        (P,) float64, square pixels, in the order of ``arrays.all_pairs``.
    """
    ends = np.cumsum(detections.counts)
    shared = [np.zeros(0)]
    for frame in np.flatnonzero((detections.counts > 0) & (table.counts > 0)).tolist():
        truth = table.runs(frame)
        found = detections.runs[ends[frame] - detections.counts[frame] : ends[frame]]
        # A mask that comes for several classes is compared once.
        distinct = {counts: row for row, counts in enumerate(dict.fromkeys(found))}
        areas = RleMasks(truth.size, tuple(distinct)).intersections(truth)
        shared.append(areas[[distinct[counts] for counts in found]].ravel())
    return np.concatenate(shared)


def _box_areas(boxes: Floats | Doubles) -> Doubles:
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2].astype(np.float64) + 1
    areas: Doubles = sides[:, 0] * sides[:, 1]
    return areas


def _sums(group: Ints, values: Doubles, groups: int) -> Doubles:
    return np.bincount(group, values, minlength=groups).astype(np.float64)


def _means(group: Ints, values: Doubles, groups: int) -> Doubles:
    """(G,) mean of each group's values; equal values keep all their digits, so that ties stay ties."""
    lowest, highest = np.full(groups, np.inf), np.full(groups, -np.inf)
    np.minimum.at(lowest, group, values)
    np.maximum.at(highest, group, values)
    sums, counts = _sums(group, values, groups), np.bincount(group, minlength=groups)
    means: Doubles = np.where(lowest == highest, lowest, sums / np.maximum(counts, 1))
    return means
