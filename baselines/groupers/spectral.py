"""Normalised cut of a clip's patches into K groups.

Ng, Jordan and Weiss, "On spectral clustering", NeurIPS 2001, on the graph of Shi and Malik, PAMI 2000; the
published program of Fan et al., ICCV 2023, offers it as a grouping of patches (section 3.4 has it for the
agreement of several seeds, which is the harness's ``--consensus``). That program chooses K in a range by the
loss of k-means, which falls with every further group; here the largest step between eigenvalues decides.
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Ge, Lt

from ovvol_bench import SettingError
from ovvol_bench.arrays import Doubles, Ints
from ovvol_bench.registry.annotations import Rounds, Slots

from .cuts import WEAK, spectrum
from .linking import unit
from .patches import Patches, PatchGrouper, Source, Span, clustered, cosines


class Spectral(PatchGrouper):
    """Run k-means on the first eigenvectors of a graph whose edges are the cosines of patches.

    Args:
        num_slots: groups K, or the most of them.
        fewest: choose K from so many on, by the largest gap between eigenvalues; none: always ``num_slots``.
        threshold: cosines of patches up to it count as no edge.
        restarts: of k-means.
        span: group a ``clip`` at once, or every ``frame`` and link the groups.
        source: features to group by: the encoder's ``tokens`` or its ``keys``.

    Raises:
        SettingError: if ``fewest`` is above ``num_slots``.
    """

    def __init__(
        self,
        *,
        num_slots: Slots = 15,
        fewest: int | None = None,
        threshold: Annotated[float, Ge(0), Lt(1)] = 0.0,
        restarts: Rounds = 10,
        span: Span = "clip",
        source: Source = "tokens",
    ) -> None:
        super().__init__(num_slots, span, source)
        if fewest is not None and not 1 <= fewest <= num_slots:
            raise SettingError(f"spectral: fewest={fewest}; expected 1 to num_slots={num_slots}, or none.")
        self.fewest = num_slots if fewest is None else fewest
        self.threshold, self.restarts = threshold, restarts

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        similarity = cosines(patches.tokens)
        # Every two patches have some edge, which keeps the graph in one piece.
        graph = np.where(similarity > self.threshold, similarity, 0) + np.float32(WEAK)
        values, vectors = spectrum(graph, self.num_slots + 1)
        groups = number_of_groups(values, self.fewest, self.num_slots)
        labels = clustered(unit(vectors[:, :groups]), groups, self.restarts, rng)
        return labels.reshape(patches.shape)


def number_of_groups(values: Doubles, fewest: int, most: int) -> int:
    """Return the K in [fewest, most] after which the eigenvalues step up most, the smallest of equals.

    Args:
        values: ascending eigenvalues, ``most + 1`` where there are so many patches.
        fewest: smallest K.
        most: largest K.
    """
    gaps = np.diff(values)[fewest - 1 : most]
    return fewest + int(gaps.argmax()) if len(gaps) else min(fewest, len(values))
