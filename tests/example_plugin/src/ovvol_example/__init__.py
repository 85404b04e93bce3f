"""Colours instead of networks: what a plugin package has to contain.

This module is what the entry point names. It loads at every start of ``ovvol-bench``, so torch is
imported inside the factories.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ovvol_bench import Entry, hookimpl

if TYPE_CHECKING:
    from ovvol_bench import Encoder, Grouper, Labeler


def build_patch_colours(*, patch_size: int = 16, position_weight: float = 0.5) -> Encoder:
    """Mean colour and position of every patch.

    Args:
        patch_size: side of a patch in pixels.
        position_weight: how much a frame's height or width counts beside the step from black to white.
    """
    from ovvol_example.encoder import PatchColours

    return PatchColours(patch_size, position_weight)


def build_nearest_seeds(*, num_slots: int = 6, temperature: float = 0.05) -> Grouper:
    """Every patch to the nearest of a few patches drawn at random.

    Args:
        num_slots: how many patches are drawn.
        temperature: softness of the assignment, in squared units of the features.
    """
    from ovvol_example.grouper import NearestSeeds

    return NearestSeeds(num_slots, temperature)


def build_colour_words(*, patch_size: int = 16) -> Labeler:
    """Patches and the colour words of a sentence in one space: red, green, blue.

    Args:
        patch_size: side of a patch in pixels.
    """
    from ovvol_example.labeler import ColourWords

    return ColourWords(patch_size)


@hookimpl
def ovvol_encoders() -> Iterator[Entry]:
    """Register the encoder."""
    yield Entry("patch_colours", build_patch_colours, "mean colour and position of every patch")


@hookimpl
def ovvol_groupers() -> Iterator[Entry]:
    """Register the grouper."""
    yield Entry("nearest_seeds", build_nearest_seeds, "patches to the nearest of a few drawn ones")


@hookimpl
def ovvol_labelers() -> Iterator[Entry]:
    """Register the labeler."""
    yield Entry("colour_words", build_colour_words, "patch colours against colour words")
