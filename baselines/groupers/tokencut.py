"""One object a clip: the smaller side of a normalised cut.

Wang et al., "Self-supervised transformers for unsupervised object discovery using normalized cut", CVPR 2022,
section 3; over whole clips as in "TokenCut: segmenting objects in images and videos", PAMI 2023, section 3.5,
whose edges also hold optical flow, which isn't used here (alpha = 1).
"""

from __future__ import annotations

import numpy as np

from ovvol_bench.arrays import Ints

from .cuts import as_labels, connected, fiedler_vector, salient_side
from .patches import Patches, PatchGrouper, Source, Span, check_cosine


class TokenCut(PatchGrouper):
    """Slot 1 is the object, slot 0 everything else.

    The object is the side with the largest absolute value of the second eigenvector, split at its mean, of
    which the part that hangs together with that value's patch is kept.

    Args:
        threshold: patches with a larger cosine are joined (tau).
        span: see `PatchGrouper`.
        source: see `PatchGrouper`.

    Raises:
        SettingError: if the threshold is no cosine.
    """

    def __init__(self, threshold: float, span: Span, source: Source) -> None:
        check_cosine("tokencut", threshold)
        super().__init__(2, span, source, fixed=1)
        self.threshold = threshold

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        """See `PatchGrouper.segment`; draws nothing."""
        side, seed = salient_side(fiedler_vector(patches.tokens, self.threshold))
        return as_labels(connected(side, seed, patches.shape))
