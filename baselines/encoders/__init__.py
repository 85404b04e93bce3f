"""Encoders to beat: one file a method; the vision transformers of timm are one, with a table of names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from ovvol_bench import Entry, Pretrained, Weights, hookimpl
from ovvol_bench.registry.limits import Cells, Layers, Side, Width

if TYPE_CHECKING:
    from ovvol_bench import Encoder

MODELS = {
    "clip": ("vit_base_patch16_clip_quickgelu_224.openai", "CLIP ViT-B/16, the image tower"),
    "dino": ("vit_small_patch16_224.dino", "DINO ViT-S/16"),
    "dinov2": ("vit_base_patch14_dinov2.lvd142m", "DINOv2 ViT-B/14"),
    "mae": ("vit_base_patch16_224.mae", "MAE ViT-B/16"),
}
"""The model of timm that each name stands for, and what it is."""


def build_timm(  # noqa: PLR0913 - keywords are the settings
    *,
    model: str,
    weights: Annotated[str | None, Weights] = None,
    pretrained: Annotated[bool, Pretrained] = True,
    patch_size: Side | None = None,
    dim: Width | None = None,
    depth: Layers | None = None,
    heads: Layers | None = None,
    positions: Literal["official", "timm"] = "official",
    stride: int | None = None,
    image_size: int | tuple[int, int] | None = None,
) -> Encoder:
    """Build the encoder.

    Args:
        model: a model of timm, with or without the tag of its weights: a plain vision transformer, or a
            network with feature maps (EVA-02, DINOv3, BEiT, Swin, Hiera, SAM, convolutional networks).
        weights: path of a file, .safetensors or PyTorch's, or of a folder from the Hugging Face hub, with
            timm's names or those of DINO, DINOv2, MAE or CLIP as published, or of ViT, ViT-MAE or DINOv2 in
            transformers; None: see ``pretrained``.
        pretrained: without ``weights``: take timm's published weights from the hub's cache or the network;
            false: random weights.
        patch_size: side of a patch, pixels; none: the model's own. Weights of another size are resampled.
        dim: width of the transformer; none: the model's own.
        depth: number of blocks; none: the model's own.
        heads: attention heads; none: the model's own.
        positions: of a plain transformer, resized to the frames as by the ``official`` program where it is
            known (DINO, DINOv2, MAE), or as by ``timm``.
        stride: of a network with feature maps, pixels between the features, which tells the map; none: the
            last.
        image_size: one number or height,width of the frames, for networks that are made for one size; none:
            any size, or the network's own.

    Raises:
        SettingError: if timm has no such model, or it gives no features of patches.
        WeightsError: if the weights can't be had, read, or do not fit.
    """
    from ovvol_bench.nn.weights import local_weights

    from .timm_models import build_model, published_file

    sizes = {"patch_size": patch_size, "embed_dim": dim, "depth": depth, "num_heads": heads}
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    encoder = build_model(model, sizes, positions, stride, size)
    if weights is not None:
        encoder.load_weights(local_weights(weights))
    elif pretrained:
        encoder.load_weights(published_file(encoder))
    return encoder


def build_pixels(*, patch_size: Side = 16, position_weight: float = 1.0) -> Encoder:
    """Build the encoder.

    Args:
        patch_size: side of a patch, pixels.
        position_weight: factor of row and column beside colour; 0 leaves colour alone.

    Raises:
        SettingError: if a number is out of range.
    """
    from .pixels import Pixels

    return Pixels(patch_size, position_weight)


def build_random(  # noqa: PLR0913 - keywords are the settings
    *,
    seed: int = 0,
    patch_size: Side = 16,
    dim: Width = 768,
    depth: Layers = 12,
    heads: Layers = 12,
    position_frames: Cells = 16,
    position_grid: Cells = 14,
    final_norm: bool = False,
) -> Encoder:
    """Build a VideoMAE whose weights are random.

    Args:
        seed: of the weights.
        patch_size: side of a patch, pixels.
        dim: width of the transformer.
        depth: number of blocks.
        heads: attention heads.
        position_frames: longest clip, frames.
        position_grid: side of the square grid of patches that positions are made for.
        final_norm: apply a LayerNorm after the last block.

    Raises:
        SettingError: if the sizes do not fit together.
    """
    import torch

    from ovvol_bench.registry import load_registry

    options = {
        "patch_size": patch_size,
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "position_frames": position_frames,
        "position_grid": position_grid,
        "final_norm": final_norm,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder: Encoder = load_registry(only=("videomae",)).build("encoder", "videomae", options)
    return encoder


def build_oracle(*, patch_size: Side = 16, dim: Width = 64) -> Encoder:
    """Build the encoder.

    Args:
        patch_size: side of a patch, pixels.
        dim: channels.

    Raises:
        SettingError: if a number is below 1.
    """
    from .oracle import Oracle

    return Oracle(patch_size, dim)


@hookimpl
def ovvol_encoders() -> Iterator[Entry]:
    """Register the encoders."""
    for name, (model, what) in MODELS.items():
        yield Entry(name, partial(build_timm, model=model), f"{what}, frame by frame")
    yield Entry(
        "oracle", build_oracle, "features made from the truth: shows what a grouper can do, no method"
    )
    yield Entry("pixels", build_pixels, "mean colour and place of every patch: no learning")
    yield Entry("random", build_random, "VideoMAE with random weights", code=("ovvol_plugins.videomae",))
    yield Entry(
        "timm",
        build_timm,
        "any vision transformer or network with feature maps of timm, as timm:NAME",
        argument="model",
    )
