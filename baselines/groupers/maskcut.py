"""Several objects a clip by repeated normalised cuts.

Wang et al., "Cut and learn for unsupervised object detection and instance segmentation" (CutLER), CVPR 2023,
section 3.2, without the conditional random field that refines masks beyond the patch grid.
"""

from __future__ import annotations

import numpy as np

from ovvol_bench.arrays import Bools, Floats, Ints

from .cuts import connected, fiedler_vector, opposite_side, salient_side
from .patches import Patches, PatchGrouper, Source, Span, check_cosine, check_counts

CORNERS_OF_BACKGROUND = 0.75
"""A side that holds this share of the frames' corners is the background."""
LARGEST_OVERLAP = 0.5
SMALLEST_SHARE = 0.01


class MaskCut(PatchGrouper):
    """Slots 1 to ``objects`` are the masks in the order found, slot 0 what none of them took.

    In each round a cut as in TokenCut; a side with three of four corners of the frames is turned round; the
    features of what was found count as zero from then on. A mask that covers more than half of what it and
    the one before cover together, or at most 1 % of the patches, is left out and ends the search.

    Args:
        objects: rounds N.
        threshold: patches with a larger cosine are joined (tau).
        span: see `PatchGrouper`.
        source: see `PatchGrouper`.

    Raises:
        SettingError: if there are no rounds, or the threshold is no cosine.
    """

    def __init__(self, objects: int, threshold: float, span: Span, source: Source) -> None:
        check_counts("maskcut", objects=objects)
        check_cosine("maskcut", threshold)
        super().__init__(1 + objects, span, source, fixed=1)
        self.threshold = threshold

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        """See `PatchGrouper.segment`; draws nothing."""
        slots = np.zeros(patches.shape, np.int64)
        taken, before = np.zeros(patches.shape, bool), np.zeros(patches.shape, bool)
        for number in range(1, self.num_slots):
            mask = self._cut(patches.tokens * ~taken.reshape(-1, 1), patches.shape)
            if mask.mean() <= SMALLEST_SHARE or _overlap(mask, before) > LARGEST_OVERLAP:
                break  # the next round would find it again
            slots[mask & ~taken] = number
            taken, before = taken | mask, mask
        return slots

    def _cut(self, tokens: Floats, shape: tuple[int, ...]) -> Bools:
        vector = fiedler_vector(tokens, self.threshold)
        side, seed = salient_side(vector)
        corners = side.reshape(shape)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        if corners.mean() >= CORNERS_OF_BACKGROUND and not side.all():
            side, seed = opposite_side(vector, side)
        return connected(side, seed, shape)


def _overlap(mask: Bools, other: Bools) -> float:
    """Intersection over union."""
    union = (mask | other).sum()
    return float((mask & other).sum() / union) if union else 0.0
