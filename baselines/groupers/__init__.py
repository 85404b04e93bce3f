"""Groupers to beat: one file a method."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench import Entry, Lazy, hookimpl

dinosaur_recipe = Lazy(
    "ovvol_plugins.slot_attention.recipe:SlotAttentionRecipe",
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
        f"{here}.dinosaur:Dinosaur",
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
        "ovvol_baselines.oracle:OracleGrouper",
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
