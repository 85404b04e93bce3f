"""Fixed sinusoid position tables; they are computed and in no checkpoint."""

from __future__ import annotations

from torch import Tensor

from ovvol_bench.nn.grids import sincos_table, sinusoid

__all__ = ["flat_table", "sincos_table", "sinusoid"]


def flat_table(steps: int, side: int, dim: int) -> Tensor:
    """Compute one sinusoid over all tokens in the order time, row, column (original VideoMAE).

    Returns:
        (steps, side, side, dim) float32.
    """
    return sinusoid(steps * side * side, dim).view(steps, side, side, dim).float()
