"""Ranges of numbers in settings: beyond, a typing mistake takes all memory before anything is said."""

from __future__ import annotations

import os
from typing import Annotated

from annotated_types import Ge, Le

from ovvol_bench.errors import SettingError

MOST_SLOTS = 4096
"""Of a clip: naming compares every two, and a clip of 8 frames at 224 x 400 has 2,800 patches."""

Slots = Annotated[int, Ge(1), Le(MOST_SLOTS)]
"""Slots of a clip, or what makes so many."""

Rounds = Annotated[int, Ge(1), Le(100_000)]
"""Repetitions of a method."""

Side = Annotated[int, Ge(1), Le(4096)]
"""Pixels, of a patch or of the square images that a network is made for."""

Cells = Annotated[int, Ge(1), Le(1024)]
"""Side of a grid of patches, or frames of a clip, for which a network has positions."""

Width = Annotated[int, Ge(1), Le(65_536)]
"""Channels of a network."""

Layers = Annotated[int, Ge(1), Le(1024)]
"""Layers of a network, or heads of a layer."""

BatchSize = Annotated[int, Ge(1), Le(2**20)]
"""Examples of an optimizer step."""


def check_fits(what: str, numbers: int) -> None:
    """Refuse a network that is larger than this machine's memory, before any of it is made.

    Args:
        what: names the settings that make it so large, as in ``videomae: dim=768, depth=12``.
        numbers: float32 that it holds, about.

    Raises:
        SettingError: if they take more bytes than there are; nothing is refused where the system doesn't say.
    """
    if not hasattr(os, "sysconf"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * numbers > there:
        raise SettingError(
            f"{what}: takes {4 * numbers / 1e9:,.0f} GB; this machine has {there / 1e9:,.0f}. Choose less."
        )
