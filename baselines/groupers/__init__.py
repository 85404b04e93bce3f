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


def build_grid(*, rows: Slots = 3, columns: Slots = 5) -> Grouper:
    """Build the grouper.

    Args:
        rows: cells from top to bottom.
        columns: cells from left to right.

    Raises:
        SettingError: if a number is below 1.
    """
    from .grid import Grid

    return Grid(rows, columns)


def build_kmeans(
    *, num_slots: Slots = 15, normalize: bool = True, restarts: Rounds = 3, iterations: Rounds = 20
) -> Grouper:
    """Build the grouper.

    Args:
        num_slots: clusters K of a clip.
        normalize: give all features length 1, so that directions are compared.
        restarts: runs from other first centres; the one with the least total distance counts.
        iterations: rounds at most.

    Raises:
        SettingError: if a number is below 1.
    """
    from .kmeans import KMeans

    return KMeans(num_slots, normalize, restarts, iterations)


def build_oracle(*, num_slots: Slots = 64) -> Grouper:
    """Build the grouper.

    Args:
        num_slots: slots K: the background and one an object; of more objects the smallest are left out.

    Raises:
        SettingError: if it is below 2.
    """
    from .oracle import Oracle

    return Oracle(num_slots)


def build_voronoi(*, num_slots: Slots = 15) -> Grouper:
    """Build the grouper.

    Args:
        num_slots: random points and so cells K.

    Raises:
        SettingError: if it is below 1.
    """
    from .voronoi import Voronoi

    return Voronoi(num_slots)


def build_whole() -> Grouper:
    """Build the grouper."""
    from .whole import Whole

    return Whole()


def build_spectral(
    *,
    num_slots: Slots = 15,
    fewest: int | None = None,
    threshold: float = 0.0,
    restarts: Rounds = 10,
    span: Literal["clip", "frame"] = "clip",
    source: Literal["tokens", "keys"] = "tokens",
) -> Grouper:
    """Build the grouper.

    Args:
        num_slots: groups K, or the most of them.
        fewest: choose K from so many on, by the largest gap between eigenvalues; none: always ``num_slots``.
        threshold: cosines of patches up to it count as no edge.
        restarts: of k-means.
        span: group a ``clip`` at once, or every ``frame`` and link the groups.
        source: features to group by: the encoder's ``tokens`` or its ``keys``.

    Raises:
        SettingError: if a number is out of range.
    """
    from .spectral import Spectral

    return Spectral(num_slots, fewest, threshold, restarts, span, source)


def build_tokencut(
    *,
    threshold: float = 0.2,
    span: Literal["clip", "frame"] = "clip",
    source: Literal["tokens", "keys"] = "keys",
) -> Grouper:
    """Build the grouper.

    Args:
        threshold: patches with a larger cosine are joined.
        span: cut a ``clip`` at once, or every ``frame``.
        source: features to group by: the encoder's ``keys``, as published, or its ``tokens``.

    Raises:
        SettingError: if the threshold is no cosine.
    """
    from .tokencut import TokenCut

    return TokenCut(threshold, span, source)


def build_maskcut(
    *,
    objects: Slots = 3,
    threshold: float = 0.15,
    span: Literal["clip", "frame"] = "clip",
    source: Literal["tokens", "keys"] = "keys",
) -> Grouper:
    """Build the grouper.

    Args:
        objects: rounds of cutting; each finds at most one object.
        threshold: patches with a larger cosine are joined.
        span: cut a ``clip`` at once, or every ``frame`` and link the objects.
        source: features to group by: the encoder's ``keys``, as published, or its ``tokens``.

    Raises:
        SettingError: if there are no rounds, or the threshold is no cosine.
    """
    from .maskcut import MaskCut

    return MaskCut(objects, threshold, span, source)


def build_lost(
    *,
    neighbours: Rounds = 100,
    span: Literal["clip", "frame"] = "frame",
    source: Literal["tokens", "keys"] = "keys",
) -> Grouper:
    """Build the grouper.

    Args:
        neighbours: patches of smallest degree that may join the seed, for each frame.
        span: look at every ``frame``, as published, or at a ``clip`` at once.
        source: features to group by: the encoder's ``keys``, as published, or its ``tokens``.

    Raises:
        SettingError: if there are no neighbours.
    """
    from .lost import Lost

    return Lost(neighbours, span, source)


def build_found(
    *,
    threshold: float = 0.3,
    span: Literal["clip", "frame"] = "frame",
    source: Literal["tokens", "keys"] = "keys",
) -> Grouper:
    """Build the grouper.

    Args:
        threshold: cosine with the seed above which a patch is background.
        span: look at every ``frame``, as published, or at a ``clip`` at once.
        source: features to compare: the encoder's ``keys``, as published, or its ``tokens``.

    Raises:
        SettingError: if the threshold is no cosine.
    """
    from .found import Found

    return Found(threshold, span, source)


def build_agglomerative(
    *,
    num_slots: Slots = 15,
    threshold: float = 0.12,
    start: Literal["clusters", "patches"] = "clusters",
    restarts: Rounds = 3,
    span: Literal["clip", "frame"] = "clip",
    source: Literal["tokens", "keys"] = "tokens",
) -> Grouper:
    """Build the grouper.

    Args:
        num_slots: clusters to start from; from ``patches`` the most that are left.
        threshold: cosine distance up to which groups are merged.
        start: merge ``clusters`` of k-means, or single ``patches``.
        restarts: of k-means.
        span: group a ``clip`` at once, or every ``frame`` and link the groups.
        source: features to group by: the encoder's ``tokens`` or its ``keys``.

    Raises:
        SettingError: if a number is out of range.
    """
    from .agglomerative import Agglomerative

    return Agglomerative(num_slots, threshold, start, restarts, span, source)


def build_dinosaur(  # noqa: PLR0913 - keywords are the settings
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
    from ovvol_bench.nn.weights import local_weights
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
    yield Entry("agglomerative", build_agglomerative, "clusters merged while all members are alike (SOLV)")
    yield Entry(
        "dinosaur",
        build_dinosaur,
        "slot attention of every frame, the slots linked (DINOSAUR)",
        recipes={"dinosaur": dinosaur_recipe},
    )
    yield Entry("found", build_found, "what is unlike the patch with the least attention (FOUND)")
    yield Entry("grid", build_grid, "equal cells, the same in every frame: no look at the video")
    yield Entry("kmeans", build_kmeans, "k-means over the features of all frames of a clip")
    yield Entry("lost", build_lost, "what hangs together with the patch that is like the fewest (LOST)")
    yield Entry("maskcut", build_maskcut, "several objects by repeated normalised cuts (MaskCut)")
    yield Entry(
        "oracle", build_oracle, "the truth's masks on the patch grid: shows what the grid allows, no method"
    )
    yield Entry("spectral", build_spectral, "normalised cut into K groups, K fixed or chosen")
    yield Entry("tokencut", build_tokencut, "one object by a normalised cut (TokenCut)")
    yield Entry(
        "voronoi", build_voronoi, "cells of random points, the same in every frame: no look at the video"
    )
    yield Entry("whole", build_whole, "one slot for everything: naming without grouping")
