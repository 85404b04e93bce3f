"""TokenCut: an object a clip, the smaller side of a normalised cut.

Wang et al., "Self-supervised transformers for unsupervised object discovery using normalized cut", CVPR 2022,
section 3; over whole clips as in "TokenCut: segmenting objects in images and videos", PAMI 2023, section 3.5,
whose edges also hold optical flow, which isn't used here (alpha = 1).
"""

from __future__ import annotations

import numpy as np

from ovvol_bench.arrays import Ints

from .cuts import fiedler_vector, salient_side
from .patches import Cosine, Patches, PatchGrouper, Source, Span, component_of


class TokenCut(PatchGrouper):
    """Cut a clip into one object, slot 1, and everything else.

    The object is the side with the largest absolute value of the second eigenvector, split at its mean, of
    which the part that hangs together with that value's patch is kept.

    Args:
        threshold: patches with a larger cosine are joined (tau).
        span: cut a ``clip`` at once, or every ``frame``.
        source: features to group by: the encoder's ``keys``, as published, or its ``tokens``.
    """

    def __init__(self, *, threshold: Cosine = 0.2, span: Span = "clip", source: Source = "keys") -> None:
        super().__init__(2, span, source, fixed=1)
        self.threshold = threshold

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        side, seed = salient_side(fiedler_vector(patches.tokens, self.threshold))
        return component_of(side.reshape(patches.shape), seed).astype(np.int64)
