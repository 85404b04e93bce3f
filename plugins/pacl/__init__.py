"""PACL labeler: patch-aligned CLIP."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench import Entry, Lazy, hookimpl

pacl_recipe = Lazy(
    "ovvol_plugins.pacl.recipe:PaclRecipe",
    optimizer="sgd",
    batch_size=16384,  # the published run had 4 nodes of 4096
    learning_rate=1.0,  # AdamW wants about 1e-3
    final_learning_rate=1e-7,
    warmup_steps=0,
    epochs=200,
    betas=(0.9, 0.999),
    weight_decay=1e-4,
    interpolation="bicubic",
    flip=True,
)
"""PACL's recipe with the published numbers, where they are not those of CLIP."""


@hookimpl
def ovvol_labelers() -> Iterator[Entry]:
    """Register the labeler."""
    yield Entry(
        "pacl",
        "ovvol_plugins.pacl.model:build_pacl",
        "PACL: CLIP with a trained head that aligns patches with text",
        recipes={"pacl": pacl_recipe, "clip": "ovvol_plugins.pacl.clip_recipe:ClipRecipe"},
    )
