"""Normalised cut of a clip's patches into K groups.

Ng, Jordan and Weiss, "On spectral clustering", NeurIPS 2001, on the graph of Shi and Malik, PAMI 2000; the
published program of Fan et al., ICCV 2023, offers it as a grouping of patches (section 3.4 has it for the
agreement of several seeds, which is the harness's ``--consensus``). That program chooses K in a range by the
loss of k-means, which falls with every further group; here the largest step between eigenvalues decides.
"""

from __future__ import annotations

import numpy as np

from ovvol_bench import SettingError
from ovvol_bench.arrays import Doubles, Floats, Ints

from .cuts import WEAK, spectrum
from .linking import unit
from .patches import Patches, PatchGrouper, Source, Span, check_counts, cosines


class Spectral(PatchGrouper):
    """k-means on the first eigenvectors of a graph whose edges are the cosines of patches.

    Args:
        num_slots: groups K, or the most that are tried.
        fewest: choose K from so many on, by the largest gap between eigenvalues; None: K is ``num_slots``.
        threshold: cosines up to it count as no edge.
        restarts: of k-means.
        span: see `PatchGrouper`.
        source: see `PatchGrouper`.

    Raises:
        SettingError: if a number is out of range.
    """

    def __init__(
        self, num_slots: int, fewest: int | None, threshold: float, restarts: int, span: Span, source: Source
    ) -> None:
        super().__init__(num_slots, span, source)
        check_counts("spectral", num_slots=num_slots, restarts=restarts)
        if fewest is not None and not 1 <= fewest <= num_slots:
            raise SettingError(f"spectral: fewest={fewest}; expected 1 to num_slots={num_slots}, or none.")
        if not 0 <= threshold < 1:
            raise SettingError(f"spectral: threshold={threshold:g}; expected at least 0 and below 1.")
        self.fewest = num_slots if fewest is None else fewest
        self.threshold, self.restarts = threshold, restarts

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        """See `PatchGrouper.segment`."""
        values, vectors = spectrum(self._graph(patches.tokens), self.num_slots + 1)
        groups = number_of_groups(values, self.fewest, self.num_slots)
        rows = unit(vectors[:, :groups])
        return self._clustered(rows, rng).reshape(patches.shape)

    def _graph(self, tokens: Floats) -> Floats:
        similarity = cosines(tokens)
        graph: Floats = np.where(similarity > self.threshold, similarity, 0) + np.float32(WEAK)
        return graph

    def _clustered(self, rows: Floats, rng: np.random.Generator) -> Ints:
        from sklearn.cluster import KMeans

        groups = min(rows.shape[1], len(np.unique(rows, axis=0)))
        model = KMeans(groups, n_init=self.restarts, random_state=int(rng.integers(2**32)))
        labels: Ints = model.fit(rows).labels_.astype(np.int64)
        return labels


def number_of_groups(values: Doubles, fewest: int, most: int) -> int:
    """The K in [fewest, most] after which the eigenvalues step up most, the smallest of equals.

    Args:
        values: ascending eigenvalues, ``most + 1`` where there are so many patches.
        fewest: smallest K.
        most: largest K.
    """
    gaps = np.diff(values)[fewest - 1 : most]
    return fewest + int(gaps.argmax()) if len(gaps) else min(fewest, len(values))
