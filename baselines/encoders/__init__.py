"""Encoders to beat: one file a method; the vision transformers of timm are one, with a table of names."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench import Entry, Lazy, hookimpl

MODELS = {
    "clip": ("vit_base_patch16_clip_quickgelu_224.openai", "CLIP ViT-B/16, the image tower"),
    "dino": ("vit_small_patch16_224.dino", "DINO ViT-S/16"),
    "dinov2": ("vit_base_patch14_dinov2.lvd142m", "DINOv2 ViT-B/14"),
    "mae": ("vit_base_patch16_224.mae", "MAE ViT-B/16"),
}
"""The model of timm that each name stands for, and what it is."""


@hookimpl
def ovvol_encoders() -> Iterator[Entry]:
    """Register the encoders."""
    here = "ovvol_baselines.encoders"
    build_timm = f"{here}.timm_models:build_timm"
    for name, (model, what) in MODELS.items():
        yield Entry(name, Lazy(build_timm, model=model), f"{what}, frame by frame")
    yield Entry(
        "oracle",
        "ovvol_baselines.oracle:OracleEncoder",
        "features made from the truth: shows what a grouper can do, no method",
    )
    yield Entry("pixels", f"{here}.pixels:Pixels", "mean colour and place of every patch: no learning")
    yield Entry("random", f"{here}.random:RandomVideoMAE", "VideoMAE with random weights")
    yield Entry(
        "timm",
        build_timm,
        "any vision transformer or network with feature maps of timm, as timm:NAME",
        argument="model",
    )
