"""Position tables: sinusoids to start from, and resizing to patch grids of any size."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def sinusoid(length: int, dim: int) -> Tensor:
    """Make sinusoids of falling frequency over positions 0 to ``length - 1``.

    Channel c is the sine (even c) or cosine (odd c) of p / 10000^(2 (c // 2) / dim).

    Returns:
        (length, dim) float64.
    """
    channels = torch.arange(dim)
    rate = 10000.0 ** (-2.0 * (channels // 2).double() / dim)
    angle = torch.arange(length).double()[:, None] * rate
    return torch.where(channels % 2 == 0, angle.sin(), angle.cos())


def sincos_table(steps: int, side: int, dim: int) -> Tensor:
    """Make positions with time, row and column in channels of their own, laid out [time | row | column].

    Row and column take ``dim // 3`` channels each, time the rest.

    Returns:
        (steps, side, side, dim) float32.
    """
    space = sinusoid(side, dim // 3)
    time = sinusoid(steps, dim - 2 * (dim // 3))
    parts = (time[:, None, None], space[None, :, None], space[None, None])
    return torch.cat([part.expand(steps, side, side, -1) for part in parts], dim=-1).float()


def resize_grid(table: Tensor, size: tuple[int, int], offset: float = 0.0) -> Tensor:
    """Resize position tables to another patch grid.

    Bicubic (a = -0.75), corners not aligned, no antialiasing: what vision transformers are commonly
    interpolated with.

    Args:
        table: (N, h, w, D) float, N independent tables.
        size: (h', w') patches.
        offset: places are taken as for h' + offset and w' + offset patches; 0.1 in DINO and DINOv2
            (``interpolate_pos_encoding`` of their vision_transformer.py).

    Returns:
        (N, h', w', D) of the same dtype; ``table`` itself where the size is already right.
    """
    if table.shape[1:3] == size:
        return table
    channels_first = table.permute(0, 3, 1, 2)
    scale = tuple((new + offset) / old for new, old in zip(size, table.shape[1:3], strict=True))
    how: dict[str, Any] = {"scale_factor": scale} if offset else {"size": size}
    resized = F.interpolate(channels_first, mode="bicubic", align_corners=False, **how)
    return resized.permute(0, 2, 3, 1)


class GridCache:
    """Resizing of position tables that remembers the last few results."""

    def __init__(self, limit: int = 8) -> None:
        self._limit = limit
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def resize(self, table: Tensor, size: tuple[int, int], offset: float = 0.0) -> Tensor:
        """Return ``resize_grid(table, size, offset)``, from memory where possible."""
        # A table in training is resized anew, so that gradients reach it; otherwise a result is kept until
        # the table is moved or written to.
        if table.is_inference() or (table.requires_grad and torch.is_grad_enabled()):
            return resize_grid(table, size, offset)
        key = (size, offset, table.shape, table.device, table.dtype, table.data_ptr(), table._version)
        if key not in self._kept:
            if len(self._kept) == self._limit:
                del self._kept[next(iter(self._kept))]
            # A tensor made in inference mode could not take part in training later.
            with torch.inference_mode(False), torch.no_grad():
                self._kept[key] = resize_grid(table, size, offset)
        return self._kept[key]
