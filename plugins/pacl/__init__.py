"""PACL labeler: patch-aligned CLIP."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench import Entry, hookimpl

from .recipes import clip_recipe, pacl_recipe


@hookimpl
def ovvol_labelers() -> Iterator[Entry]:
    """Register the labeler."""
    yield Entry(
        "pacl",
        "ovvol_plugins.pacl.checkpoint:build_pacl",
        "PACL: CLIP with a trained head that aligns patches with text",
        recipes={"pacl": pacl_recipe, "clip": clip_recipe},
    )
