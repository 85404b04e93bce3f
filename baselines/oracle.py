"""Oracles, which answer with the ground truth: bounds on what an encoder, grouper or labeler can add.

`patch_truth` brings a clip's ground truth to a patch grid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Generator, Tensor

from ovvol_bench import (
    ClipInfo,
    DataError,
    Encoder,
    Features,
    FrameTruth,
    FromDataset,
    Grouper,
    Labeler,
    SettingError,
    SlotMasks,
)
from ovvol_bench.arrays import Bools, Floats, Ints
from ovvol_bench.registry.annotations import Side, Slots, Width


class OracleEncoder(Encoder):
    """Give every object a random direction, the same in all clips of its video, and the background another.

    A patch has the mean of the directions of what it shows, weighted by the area that each covers: patches at
    borders are mixed, as the patch grid makes them. The map ``keys`` is the same.

    Args:
        patch_size: side of a patch, pixels.
        dim: channels; directions are the closer to orthogonal, the more there are.
    """

    needs_truth = True
    tubelet_size = 1
    maps = frozenset({"keys"})

    def __init__(self, *, patch_size: Side = 16, dim: Width = 64) -> None:
        super().__init__()
        self.patch_size, self.dim = patch_size, dim

    def encode(self, video: Tensor, truth: Sequence[ClipInfo] = ()) -> Features:
        size = (video.shape[3] // self.patch_size, video.shape[4] // self.patch_size)
        clips = []
        for info in truth:
            known = patch_truth(info, size)
            names = [
                f"{info.video}\0{track}" if track >= 0 else f"{info.id}\0object {row}"
                for row, track in enumerate(known.track_ids.tolist())
            ]
            rows = np.stack([self._direction(name) for name in (f"{info.video}\0background", *names)])
            clips.append(np.einsum("othw,od->thwd", known.cover, rows).astype(np.float32))
        grid = torch.from_numpy(np.stack(clips)).to(video.device)
        return Features(grid, {"keys": grid})

    def _direction(self, name: str) -> Floats:
        """Return the (D,) direction of length 1 that follows from a name."""
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        draw = np.random.default_rng(seed).standard_normal(self.dim)
        direction: Floats = (draw / np.linalg.norm(draw)).astype(np.float32)
        return direction


class OracleGrouper(Grouper):
    """Give every object a slot, slot 0 to the background; a patch belongs to what covers most of it.

    No hard assignment of patches agrees with more pixels. Box metrics that forgive further boxes (CorLoc of
    any box) may come out higher with more slots: a slot of border patches can fit a box better than the
    patches that an object has most of.

    Args:
        num_slots: slots K: the background and one an object; of more objects those that cover least fall to
            the background.
    """

    needs_truth = True

    def __init__(self, *, num_slots: Annotated[Slots, Ge(2)] = 64) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.max_objects = num_slots - 1

    def group(
        self, features: Features, draws: Sequence[Generator], truth: Sequence[ClipInfo] = ()
    ) -> SlotMasks:
        steps, height, width = features.grid.shape[1:4]
        slots = []
        for info in truth:
            known = patch_truth(info, (height, width)).in_steps(steps)
            sizes = known.cover[1:].sum(axis=(1, 2, 3))
            kept = np.sort(np.argsort(-sizes, kind="stable")[: self.max_objects])
            slot_of = np.zeros(len(known.cover), np.int64)
            slot_of[1 + kept] = 1 + np.arange(len(kept))
            slots.append(torch.from_numpy(slot_of[known.rows]))
        masks = F.one_hot(torch.stack(slots), self.num_slots).movedim(-1, 1).float()
        return SlotMasks(masks.to(features.grid.device))


class OracleLabeler(Labeler):
    """Name every patch after what covers most of it; each class and the background have an axis of their own.

    Args:
        num_classes: foreground classes C; follows from the dataset.
        patch_size: side of a patch, pixels.
    """

    needs_truth = True

    def __init__(
        self, *, num_classes: Annotated[Width, FromDataset("num_classes")] = 30, patch_size: Side = 8
    ) -> None:
        super().__init__()
        self.patch_size, self.dim = patch_size, num_classes + 1

    def embed_patches(self, video: Tensor, truth: Sequence[ClipInfo] = ()) -> Tensor:
        grid = (video.shape[-2] // self.patch_size, video.shape[-1] // self.patch_size)
        classes = np.stack([patch_truth(info, grid).classes for info in truth])
        return self._axes(torch.from_numpy(classes).to(video.device))

    def embed_text(self, prompts: Sequence[str], truth: Sequence[int] = ()) -> Tensor:
        # The truth is the class of every sentence, 0 for background words.
        return self._axes(torch.as_tensor(np.asarray(truth, dtype=np.int64)))

    def _axes(self, classes: Tensor) -> Tensor:
        if classes.numel() and int(classes.max()) >= self.dim:
            raise SettingError(
                f"oracle: class {int(classes.max())} of num_classes={self.dim - 1}. Leave "
                f"labeler.num_classes out: it follows from the dataset."
            )
        return F.one_hot(classes, self.dim).float()


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
        """Row of ``cover`` that has most of each patch, the first of equals, (T, h, w) int64."""
        rows: Ints = self.cover.argmax(axis=0)
        return rows

    @property
    def classes(self) -> Ints:
        """Class that has most of each patch, 0 for the background, (T, h, w) int64."""
        named: Ints = np.concatenate([[0], self.class_ids]).astype(np.int64)[self.rows]
        return named

    def in_steps(self, steps: int) -> PatchTruth:
        """Return the same in ``steps`` time steps, each the mean of T / steps frames."""
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
        masks = _visible(frame, info.frame_size)
        cover[1 + objects, step] = down @ masks.astype(np.float32) @ right.T
        cover[0, step] = down @ (~masks.any(axis=0)).astype(np.float32) @ right.T
    return PatchTruth(cover, tracks, classes)


def _visible(frame: FrameTruth, size: tuple[int, int]) -> Bools:
    """Return (M, H, W) masks, or boxes filled in of which smaller ones hide larger ones."""
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
    """Find each frame's objects, one a box, and track and class of every object, in order of appearance."""
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
    """Return the share of a cell that each pixel fills, (cells, pixels) float32; rows sum to 1."""
    edges = np.arange(cells + 1)[:, None] * pixels / cells
    starts = np.arange(pixels)
    shared = np.minimum(edges[1:], starts + 1) - np.maximum(edges[:-1], starts)
    share: Floats = (shared.clip(min=0) * cells / pixels).astype(np.float32)
    return share
