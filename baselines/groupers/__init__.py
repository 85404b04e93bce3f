"""Groupers to beat: one file a method."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ovvol_bench import Entry, hookimpl

if TYPE_CHECKING:
    from ovvol_bench import Grouper


def build_grid(*, rows: int = 3, columns: int = 5) -> Grouper:
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
    *, num_slots: int = 15, normalize: bool = True, restarts: int = 3, iterations: int = 20
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


def build_oracle(*, num_slots: int = 64) -> Grouper:
    """Build the grouper.

    Args:
        num_slots: slots K: the background and one an object; of more objects the smallest are left out.

    Raises:
        SettingError: if it is below 2.
    """
    from .oracle import Oracle

    return Oracle(num_slots)


@hookimpl
def ovvol_groupers() -> Iterator[Entry]:
    """Register the groupers."""
    yield Entry("grid", build_grid, "equal cells, the same in every frame: no look at the video")
    yield Entry("kmeans", build_kmeans, "k-means over the features of all frames of a clip")
    yield Entry("oracle", build_oracle, "the truth's masks on the patch grid: an upper bound, no method")
