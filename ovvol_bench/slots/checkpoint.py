"""The checkpoint layouts that the slot attention grouper reads."""

from __future__ import annotations

from pathlib import Path

from ovvol_bench.slots.model import SlotAttentionGrouper
from ovvol_bench.weights import State, load_strict, read_state

# A checkpoint of the reference also holds its frozen encoder; ours is loaded on its own.
_ENCODER = ("model.*",)


def load_grouper(grouper: SlotAttentionGrouper, path: Path) -> None:
    """Load a state dict of the reference's grouping model, or one saved by this project.

    Raises:
        WeightsError: if the file can't be read, or names or shapes do not fit.
    """
    load_strict(grouper, _split_positions(read_state(path), grouper), path, ignored=_ENCODER)


def _split_positions(state: State, grouper: SlotAttentionGrouper) -> State:
    """Older files hold the positions of all time steps in one row: (1, S*h*w, D)."""
    table, wanted = state.get("decoder.pos_embed"), grouper.decoder.pos_embed
    if table is not None and len(table) == 1 and table.numel() == wanted.numel():
        return {**state, "decoder.pos_embed": table.view(wanted.shape)}
    return state
