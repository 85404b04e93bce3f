"""Contingency tables of detections with masks: a detection or a track is a group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np

from ovvol_bench.arrays import Ints, offsets_of
from ovvol_bench.detections import Detections
from ovvol_bench.metrics.contingency import DROPPED, ClipTable, Identity, Ignore, frames_table, true_frames
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tubes import check_tracks, samples_of

Unit = Literal["image", "clip", "video"]


def detection_tables(
    detections: Detections,
    table: TruthTable,
    unit: Unit,
    identity: Identity,
    ignore: Ignore = "nothing",
) -> Iterator[ClipTable]:
    """The tables of each clip, or of each video where tracks go through it.

    A pixel belongs to the detection of the highest score whose mask covers it, the first of equals, and to
    no group where none does.

    Args:
        detections: with masks, in the frames of the table.
        table: truth of clips in order, with masks.
        unit: in images a detection is a group, in clips and videos a track.
        identity: what makes a row, see ``contingency.clip_table``.
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
        maps = (group_map(detections, first + place, *part) for place, part in enumerate(parts))
        yield frames_table(frames[first:end], maps, len(names), "frame", identity, ignore)


def group_map(detections: Detections, frame: int, rows: Ints, groups: Ints) -> Ints:
    """Which group each pixel of a frame belongs to.

    Args:
        detections: with masks.
        frame: which.
        rows: (N,) the frame's detections.
        groups: (N,) theirs.

    Returns:
        (H, W), ``DROPPED`` where no mask is.
    """
    height, width = detections.frames.sizes[detections.frames.video[frame]].tolist()
    order = np.argsort(-detections.scores[rows], kind="stable")
    masks = detections.masks_of(rows[order], (height, width)).decode()
    if not len(masks):
        return np.full((height, width), DROPPED)
    covering: Ints = np.where(masks.any(axis=0), groups[order][masks.argmax(axis=0)], DROPPED)
    return covering
