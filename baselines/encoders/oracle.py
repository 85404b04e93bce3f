"""Features made from the truth: what is left to a grouper that gets perfect ones."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ovvol_bench import ClipInfo, Encoder, Features
from ovvol_bench.arrays import Floats
from ovvol_bench.registry.annotations import Side, Width
from ovvol_bench.truth import patch_truth


class Oracle(Encoder):
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
        clips = np.stack([self._clip(info, size) for info in truth])
        grid = torch.from_numpy(clips).to(video.device)
        return Features(grid, {"keys": grid})

    def _clip(self, info: ClipInfo, size: tuple[int, int]) -> Floats:
        """(T, h, w, D)."""
        known = patch_truth(info, size)
        names = [
            f"{info.video}\0{track}" if track >= 0 else f"{info.id}\0object {row}"
            for row, track in enumerate(known.track_ids.tolist())
        ]
        rows = np.stack([self._direction(name) for name in (f"{info.video}\0background", *names)])
        features: Floats = np.einsum("othw,od->thwd", known.cover, rows).astype(np.float32)
        return features

    def _direction(self, name: str) -> Floats:
        """(D,) float32 of length 1 that follows from a name."""
        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
        draw = np.random.default_rng(seed).standard_normal(self.dim)
        direction: Floats = (draw / np.linalg.norm(draw)).astype(np.float32)
        return direction
