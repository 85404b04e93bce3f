"""Groupers to beat: one file a method."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from ovvol_bench import Entry, FromEncoder, Weights, hookimpl
from ovvol_bench.registry.limits import Cells, Layers, Rounds, Slots, Width
from ovvol_plugins.slot_attention import slot_attention_recipe

if TYPE_CHECKING:
    from ovvol_bench import Grouper


def build_dinosaur(
    *,
    weights: Annotated[str | None, Weights] = None,
    num_slots: Slots = 7,
    slot_dim: Width = 256,
    feature_dim: Annotated[Width, FromEncoder("dim")] = 768,
    frames: Annotated[int, FromEncoder("steps")] = 8,
    iterations: Rounds = 3,
    decoder_dim: Width = 2048,
    decoder_layers: Layers = 3,
    position_grid: Cells = 14,
    masks: Literal["decoder", "attention"] = "decoder",
) -> Grouper:
    """Build the grouper.

    Args:
        weights: path of a file from its training, or PACKAGE:NAME; none: random.
        num_slots: slots; at most so many objects are found in a clip.
        slot_dim: channels of a slot.
        feature_dim: channels of the encoder's features.
        frames: time steps of the clips that it is trained on; others may be grouped.
        iterations: rounds of attention.
        decoder_dim: hidden width of the decoder.
        decoder_layers: hidden layers of the decoder.
        position_grid: side of the square grid that the decoder's positions are stored for.
        masks: of the ``decoder``, as published, or the last iteration's ``attention``.

    Raises:
        SettingError: if a number is below 1.
        WeightsError: if the weights can't be read or do not fit.
    """
    from ovvol_bench.weights import local_weights
    from ovvol_plugins.slot_attention.model import SlotAttentionSettings

    from .dinosaur import Dinosaur

    settings = SlotAttentionSettings(
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
    grouper = Dinosaur(settings)
    if weights is not None:
        grouper.load_weights(local_weights(weights))
    return grouper


dinosaur_recipe = partial(
    slot_attention_recipe,
    sizes=("224x224",),
    strides=(1,),
    clips_per_video=30,
    decoded_frames=1,
    batch_size=64,
    epochs=276,
    learning_rate=4e-4,
    warmup_steps=10_000,
    decay_steps=100_000,
)
"""Slot attention's recipe with the paper's numbers: single frames, Adam, 500k steps on ImageNet-VID."""


@hookimpl
def ovvol_groupers() -> Iterator[Entry]:
    """Register the groupers."""
    here = "ovvol_baselines.groupers"
    yield Entry(
        "agglomerative",
        f"{here}.agglomerative:Agglomerative",
        "clusters merged while all members are alike (SOLV)",
    )
    yield Entry(
        "dinosaur",
        build_dinosaur,
        "slot attention of every frame, the slots linked (DINOSAUR)",
        recipes={"dinosaur": dinosaur_recipe},
    )
    yield Entry("found", f"{here}.found:Found", "what is unlike the patch with the least attention (FOUND)")
    yield Entry("grid", f"{here}.grid:Grid", "equal cells, the same in every frame: no look at the video")
    yield Entry("kmeans", f"{here}.kmeans:KMeans", "k-means over the features of all frames of a clip")
    yield Entry(
        "lost", f"{here}.lost:Lost", "what hangs together with the patch that is like the fewest (LOST)"
    )
    yield Entry("maskcut", f"{here}.maskcut:MaskCut", "several objects by repeated normalised cuts (MaskCut)")
    yield Entry(
        "oracle",
        f"{here}.oracle:Oracle",
        "the truth's masks on the patch grid: shows what the grid allows, no method",
    )
    yield Entry("spectral", f"{here}.spectral:Spectral", "normalised cut into K groups, K fixed or chosen")
    yield Entry("tokencut", f"{here}.tokencut:TokenCut", "one object by a normalised cut (TokenCut)")
    yield Entry(
        "voronoi",
        f"{here}.voronoi:Voronoi",
        "cells of random points, the same in every frame: no look at the video",
    )
    yield Entry("whole", f"{here}.whole:Whole", "one slot for everything: naming without grouping")
