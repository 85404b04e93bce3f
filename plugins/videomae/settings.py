"""Architecture of a VideoMAE encoder: its sizes, and the positions that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from ovvol_bench import SettingError
from ovvol_bench.nn.grids import sincos_table, sinusoid
from ovvol_bench.registry.annotations import check_fits

LAYER_NORM_EPS = 1e-6
PositionKind = Literal["sincos3d", "flat"]


def flat_table(steps: int, side: int, dim: int) -> Tensor:
    """Compute one sinusoid over all tokens in the order time, row, column (original VideoMAE).

    Returns:
        (steps, side, side, dim) float32.
    """
    return sinusoid(steps * side * side, dim).view(steps, side, side, dim).float()


POSITIONS = {"sincos3d": sincos_table, "flat": flat_table}
"""Makers of position tables (steps, side, side, dim) by kind; no checkpoint needs to hold them."""


@dataclass(frozen=True)
class VideoMAESettings:
    """Architecture of an encoder.

    Attributes:
        patch_size: side of a patch, pixels.
        tubelet_size: frames a patch spans.
        dim, depth, heads: of the transformer; ``dim`` is a multiple of ``heads``.
        mlp_ratio: hidden width of an MLP over ``dim``.
        position_frames: longest clip, frames; the time axis of the positions is never stretched.
        position_grid: side of the square grid of patches that positions are made for.
        positions: ``sincos3d`` (time, row and column apart) or ``flat`` (one sinusoid over all
            tokens in order, as in the original VideoMAE).
        final_norm: apply a LayerNorm after the last block.
        norm_eps: added to variances in all norms.

    Raises:
        SettingError: if the numbers do not fit together.
    """

    patch_size: int = 16
    tubelet_size: int = 1
    dim: int = 768
    depth: int = 12
    heads: int = 12
    mlp_ratio: float = 4.0
    position_frames: int = 16
    position_grid: int = 14
    positions: PositionKind = "sincos3d"
    final_norm: bool = False
    norm_eps: float = LAYER_NORM_EPS

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if name not in {"positions", "final_norm"} and value <= 0:
                raise SettingError(f"videomae: {name}={value}; expected more than 0.")
        if self.dim % self.heads:
            raise SettingError(f"videomae: dim={self.dim} is not a multiple of heads={self.heads}.")
        if self.position_frames % self.tubelet_size:
            raise SettingError(
                f"videomae: position_frames={self.position_frames} is not a multiple of "
                f"tubelet_size={self.tubelet_size}."
            )
        # Refused before anything is made: a typing mistake would take all memory first.
        layers = self.depth * int(4 + 2 * self.mlp_ratio) * self.dim**2
        patches = self.position_frames // self.tubelet_size * self.position_grid**2
        embedding = 3 * self.tubelet_size * self.patch_size**2 + patches
        shape = f"dim={self.dim}, depth={self.depth}, patch_size={self.patch_size}"
        places = f"position_frames={self.position_frames}, position_grid={self.position_grid}"
        check_fits(f"videomae: {shape}, {places}", layers + embedding * self.dim)

    def position_table(self, dim: int) -> Tensor:
        """Compute positions, (position_frames / tubelet_size, position_grid, position_grid, dim) float32."""
        steps = self.position_frames // self.tubelet_size
        return POSITIONS[self.positions](steps, self.position_grid, dim)
