"""VideoMAE video encoder."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench import Entry, Lazy, hookimpl

build_videomae = Lazy("ovvol_plugins.videomae.model:build_videomae")


@hookimpl
def ovvol_encoders() -> Iterator[Entry]:
    """Register the encoder."""
    yield Entry(
        "videomae",
        build_videomae,
        "VideoMAE vision transformer, patch tokens of a clip",
        recipes={"videomae": "ovvol_plugins.videomae.recipe:VideoMAERecipe"},
    )
