"""Slot attention grouper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ovvol_bench import Entry, FromEncoder, Weights, hookimpl
from ovvol_bench.registry.limits import Cells, Layers, Rounds, Slots, Width
from ovvol_bench.slots import slot_attention_recipe

if TYPE_CHECKING:
    from ovvol_bench import Grouper

BUNDLED = Path(__file__).parent / "weights"


def build_slot_attention(  # noqa: PLR0913 - keywords are the settings
    *,
    weights: Annotated[str | None, Weights] = None,
    num_slots: Slots = 15,
    slot_dim: Width = 128,
    feature_dim: Annotated[Width, FromEncoder("dim")] = 768,
    frames: Annotated[int, FromEncoder("steps")] = 8,
    iterations: Rounds = 3,
    decoder_dim: Width = 1024,
    decoder_layers: Layers = 3,
    position_grid: Cells = 14,
    masks: Literal["decoder", "attention"] = "decoder",
) -> Grouper:
    """Build the grouper.

    Args:
        weights: path of a checkpoint, or the name of one that comes with the plugin; None leaves the
            weights random.
        num_slots: slots; at most so many objects are found in a clip.
        slot_dim: channels of a slot.
        feature_dim: channels of the encoder's features.
        frames: time steps of the features, exactly.
        iterations: rounds of attention.
        decoder_dim: hidden width of the decoder.
        decoder_layers: hidden layers of the decoder.
        position_grid: side of the square grid that the decoder's positions are stored for.
        masks: of the ``decoder``, as published, or the last iteration's ``attention``.

    Raises:
        SettingError: if a number is below 1.
        WeightsError: if the weights can't be read or do not fit.
    """
    from ovvol_bench.slots.model import SlotAttentionGrouper, SlotAttentionSettings
    from ovvol_bench.weights import resolve_weights

    grouper = SlotAttentionGrouper(
        SlotAttentionSettings(
            num_slots=num_slots,
            slot_dim=slot_dim,
            feature_dim=feature_dim,
            frames=frames,
            iterations=iterations,
            decoder_dim=decoder_dim,
            decoder_layers=decoder_layers,
            position_grid=position_grid,
            masks=masks,
        )
    )
    if weights is not None:
        grouper.load_weights(resolve_weights(weights, BUNDLED))
    return grouper


@hookimpl
def ovvol_groupers() -> Iterator[Entry]:
    """Register the grouper."""
    yield Entry(
        "slot_attention",
        build_slot_attention,
        "slot attention over all tokens of a clip",
        recipes={"slot_attention": slot_attention_recipe},
    )
