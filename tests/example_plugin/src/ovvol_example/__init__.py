"""Colours instead of networks: what a plugin package has to contain.

This module is what the entry point names. It loads at every start of ``ovvol-bench``, so it names the
classes and doesn't import them, and torch with them.
"""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench import Entry, hookimpl


@hookimpl
def ovvol_encoders() -> Iterator[Entry]:
    """Register the encoder."""
    yield Entry(
        "patch_colours", "ovvol_example.encoder:PatchColours", "mean colour and position of every patch"
    )


@hookimpl
def ovvol_groupers() -> Iterator[Entry]:
    """Register the grouper."""
    yield Entry(
        "nearest_seeds", "ovvol_example.grouper:NearestSeeds", "patches to the nearest of a few drawn ones"
    )


@hookimpl
def ovvol_labelers() -> Iterator[Entry]:
    """Register the labeler."""
    yield Entry("colour_words", "ovvol_example.labeler:ColourWords", "patch colours against colour words")
