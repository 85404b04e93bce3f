"""Several objects a clip by repeated normalised cuts.

Wang et al., "Cut and learn for unsupervised object detection and instance segmentation" (CutLER), CVPR 2023,
section 3.2, without the conditional random field that refines masks beyond the patch grid.
"""

from __future__ import annotations

import numpy as np

from ovvol_bench.arrays import Bools, Floats, Ints
from ovvol_bench.registry.annotations import Slots

from .cuts import fiedler_vector, salient_side
from .patches import Cosine, Patches, PatchGrouper, Source, Span, component_of

CORNERS_OF_BACKGROUND = 0.75  # a side that holds this share of the frames' corners is the background
LARGEST_OVERLAP = 0.5
SMALLEST_SHARE = 0.01


class MaskCut(PatchGrouper):
    """Cut one object after another out of a clip: slots 1 to ``objects``, slot 0 what none of them took.

    In each round a cut as in TokenCut; a side with three of four corners of the frames is turned round; the
    features of what was found count as zero from then on. A mask that covers more than half of what it and
    the one before cover together, or at most 1 % of the patches, is left out and ends the search.

    Args:
        objects: rounds of cutting N; each finds at most one object.
        threshold: patches with a larger cosine are joined (tau).
        span: cut a ``clip`` at once, or every ``frame`` and link the objects.
        source: features to group by: the encoder's ``keys``, as published, or its ``tokens``.
    """

    def __init__(
        self, *, objects: Slots = 3, threshold: Cosine = 0.15, span: Span = "clip", source: Source = "keys"
    ) -> None:
        super().__init__(1 + objects, span, source, fixed=1)
        self.threshold = threshold

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        slots = np.zeros(patches.shape, np.int64)
        taken, before = np.zeros(patches.shape, bool), np.zeros(patches.shape, bool)
        for number in range(1, self.num_slots):
            mask = self._cut(patches.tokens * ~taken.reshape(-1, 1), patches.shape)
            overlap = (mask & before).sum() / max(1, (mask | before).sum())  # IoU with the one before
            if mask.mean() <= SMALLEST_SHARE or overlap > LARGEST_OVERLAP:
                break  # the next round would find it again
            slots[mask & ~taken] = number
            taken, before = taken | mask, mask
        return slots

    def _cut(self, tokens: Floats, shape: tuple[int, ...]) -> Bools:
        vector = fiedler_vector(tokens, self.threshold)
        side, seed = salient_side(vector)
        corners = side.reshape(shape)[:, [0, 0, -1, -1], [0, -1, 0, -1]]
        if corners.mean() >= CORNERS_OF_BACKGROUND and not side.all():
            # The object is the other side, its seed where that has the largest absolute value.
            seed = int(np.where(side, -1, np.abs(vector)).argmax())
            side = ~side
        return component_of(side.reshape(shape), seed)
