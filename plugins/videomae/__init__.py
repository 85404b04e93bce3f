"""VideoMAE video encoder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ovvol_bench import Entry, hookimpl

if TYPE_CHECKING:
    from ovvol_bench import Encoder

BUNDLED = Path(__file__).parent / "weights"


def build_videomae(  # noqa: PLR0913 - keywords are the settings
    *,
    weights: str | None = None,
    patch_size: int = 16,
    tubelet_size: int = 1,
    dim: int = 768,
    depth: int = 12,
    heads: int = 12,
    mlp_ratio: float = 4.0,
    position_frames: int = 16,
    position_grid: int = 14,
    positions: Literal["sincos3d", "flat"] = "sincos3d",
    final_norm: bool = False,
) -> Encoder:
    """Build the encoder.

    Args:
        weights: path of a checkpoint, or the name of one that comes with the plugin; None leaves the
            weights random.
        patch_size: side of a patch, pixels.
        tubelet_size: frames a patch spans.
        dim: width of the transformer.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: hidden width of an MLP over ``dim``.
        position_frames: longest clip, frames.
        position_grid: side of the square grid of patches that positions are made for.
        positions: ``sincos3d``, or ``flat`` for original VideoMAE weights.
        final_norm: apply a LayerNorm after the last block.

    Raises:
        SettingError: if the sizes do not fit together.
        WeightsError: if the weights can't be read or do not fit.
    """
    from ovvol_bench.weights import resolve_weights

    from .model import VideoMAE, VideoMAESettings

    encoder = VideoMAE(
        VideoMAESettings(
            patch_size=patch_size,
            tubelet_size=tubelet_size,
            dim=dim,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            position_frames=position_frames,
            position_grid=position_grid,
            positions=positions,
            final_norm=final_norm,
        )
    )
    if weights is not None:
        encoder.load_weights(resolve_weights(weights, BUNDLED))
    return encoder


@hookimpl
def ovvol_encoders() -> Iterator[Entry]:
    """Register the encoder."""
    yield Entry("videomae", build_videomae, "VideoMAE vision transformer, patch tokens of a clip")
