"""The truth of a clip on a patch grid: what oracles answer with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ovvol_bench.arrays import Bools, Floats, Ints
from ovvol_bench.errors import DataError
from ovvol_bench.types import ClipInfo, FrameTruth

UNTRACKED = -1


@dataclass(frozen=True)
class PatchTruth:
    """Shares of every patch that the background and each object of a clip cover.

    Attributes:
        cover: (O + 1, T, h, w) float32 in [0, 1], row 0 the background, row n the n-th object. Sums to 1 over
            the rows where objects don't overlap.
        track_ids: (O,) int64, -1 where unknown.
        class_ids: (O,) int64 in [1, C].
    """

    cover: Floats
    track_ids: Ints
    class_ids: Ints

    @property
    def rows(self) -> Ints:
        """(T, h, w) int64: the row of ``cover`` that has most of each patch, the first of equals."""
        rows: Ints = self.cover.argmax(axis=0)
        return rows

    @property
    def classes(self) -> Ints:
        """(T, h, w) int64: the class that has most of each patch, 0 for the background."""
        named: Ints = np.concatenate([[0], self.class_ids]).astype(np.int64)[self.rows]
        return named

    def in_steps(self, steps: int) -> PatchTruth:
        """The same in ``steps`` time steps, each the mean of T / steps frames."""
        frames = self.cover.shape[1] // steps
        parts = self.cover.reshape(len(self.cover), steps, frames, *self.cover.shape[2:])
        return replace(self, cover=parts.mean(axis=2))


def patch_truth(info: ClipInfo, grid: tuple[int, int]) -> PatchTruth:
    """Bring a clip's truth to a patch grid that covers the whole frame.

    Masks count where the dataset has them, else boxes filled in, smaller ones in front of larger ones. Boxes
    of one track are one object; a box without a track is an object of its own in every frame.

    Args:
        info: of the clip.
        grid: (h, w) patches of a frame.

    Raises:
        DataError: if the clip has no truth.
    """
    if info.truth is None:
        raise DataError(f"clip {info.id} has no truth, which an oracle answers with. Choose another dataset.")
    places, tracks, classes = _objects(info.truth)
    cover = np.zeros((len(tracks) + 1, len(info.truth), *grid), np.float32)
    down, right = (_overlap(*sides) for sides in zip(info.frame_size, grid, strict=True))
    for step, (frame, objects) in enumerate(zip(info.truth, places, strict=True)):
        masks = visible(frame, info.frame_size)
        cover[1 + objects, step] = down @ masks.astype(np.float32) @ right.T
        cover[0, step] = down @ (~masks.any(axis=0)).astype(np.float32) @ right.T
    return PatchTruth(cover, tracks, classes)


def visible(frame: FrameTruth, size: tuple[int, int]) -> Bools:
    """(M, H, W) bool: masks, or boxes filled in of which smaller ones hide larger ones."""
    if frame.pixels is not None:
        return frame.pixels
    areas = (frame.boxes[:, 2] - frame.boxes[:, 0] + 1) * (frame.boxes[:, 3] - frame.boxes[:, 1] + 1)
    painted = np.full(size, -1)
    for row in np.argsort(-areas, kind="stable"):
        left, top, right, bottom = np.maximum(np.floor(frame.boxes[row]), (0, 0, -1, -1)).astype(int)
        painted[top : bottom + 1, left : right + 1] = row
    masks: Bools = painted == np.arange(len(frame))[:, None, None]
    return masks


def _objects(truth: Sequence[FrameTruth]) -> tuple[list[Ints], Ints, Ints]:
    """For every frame the object of each box, and track and class of every object, in order of appearance."""
    seen: dict[tuple[int, ...], tuple[int, int]] = {}
    places = []
    for step, frame in enumerate(truth):
        tracks, classes = frame.track_ids.tolist(), frame.class_ids.tolist()
        keys = [(t, step, row) if t == UNTRACKED else (t,) for row, t in enumerate(tracks)]
        for key, track, named in zip(keys, tracks, classes, strict=True):
            seen.setdefault(key, (track, named))
        order = {key: index for index, key in enumerate(seen)}
        places.append(np.array([order[key] for key in keys], np.int64))
    found = np.array(list(seen.values()), np.int64).reshape(-1, 2)
    return places, found[:, 0], found[:, 1]


def _overlap(pixels: int, cells: int) -> Floats:
    """(cells, pixels) float32: how much of a cell each pixel fills; rows sum to 1."""
    edges = np.arange(cells + 1)[:, None] * pixels / cells
    starts = np.arange(pixels)
    shared = np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts)
    share: Floats = (shared.clip(min=0) * cells / pixels).astype(np.float32)
    return share
