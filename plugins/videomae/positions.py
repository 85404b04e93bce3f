"""Fixed sinusoid position tables; they are computed and in no checkpoint."""

from __future__ import annotations

import torch
from torch import Tensor


def sinusoid(length: int, dim: int) -> Tensor:
    """Sinusoids of falling frequency over positions 0 to ``length - 1``.

    Channel c is the sine (even c) or cosine (odd c) of p / 10000^(2 (c // 2) / dim).

    Returns:
        (length, dim) float64.
    """
    channels = torch.arange(dim)
    rate = 10000.0 ** (-2.0 * (channels // 2).double() / dim)
    angle = torch.arange(length).double()[:, None] * rate
    return torch.where(channels % 2 == 0, angle.sin(), angle.cos())


def sincos_table(steps: int, side: int, dim: int) -> Tensor:
    """Time, row and column in channels of their own, laid out [time | row | column].

    Row and column take ``dim // 3`` channels each, time the rest.

    Returns:
        (steps, side, side, dim) float32.
    """
    space = sinusoid(side, dim // 3)
    time = sinusoid(steps, dim - 2 * (dim // 3))
    parts = (time[:, None, None], space[None, :, None], space[None, None])
    return torch.cat([part.expand(steps, side, side, -1) for part in parts], dim=-1).float()


def flat_table(steps: int, side: int, dim: int) -> Tensor:
    """One sinusoid over all tokens in the order time, row, column (original VideoMAE).

    Returns:
        (steps, side, side, dim) float32.
    """
    return sinusoid(steps * side * side, dim).view(steps, side, side, dim).float()
