"""Slot attention grouper."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench import Entry, hookimpl


@hookimpl
def ovvol_groupers() -> Iterator[Entry]:
    """Register the grouper."""
    yield Entry(
        "slot_attention",
        "ovvol_plugins.slot_attention.model:SlotAttentionGrouper",
        "slot attention over all tokens of a clip",
        recipes={"slot_attention": "ovvol_plugins.slot_attention.recipe:SlotAttentionRecipe"},
    )
