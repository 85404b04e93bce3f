"""The foreground as the complement of the background, which is found first.

Siméoni et al., "Unsupervised object localization: observing the background to discover objects" (FOUND), CVPR
2023, section 3.1: the training-free first step, without the convolution that the paper learns on top of it.
"""

from __future__ import annotations

import numpy as np

from ovvol_bench import SettingError
from ovvol_bench.arrays import Floats, Ints

from .linking import unit
from .patches import Cosine, Patches, PatchGrouper, Source, Span


class Found(PatchGrouper):
    """Find the background, slot 0; slot 1 is the rest.

    A head of the last attention layer weighs the more, the fewer patches get more of the class token's
    attention than the mean: log(all such shares / its own). The patch with the least weighted attention is
    the seed of the background, to which all patches belong whose weighted features are like the seed's.

    Args:
        threshold: cosine with the seed above which a patch is background (tau).
        span: look at every ``frame``, as published, or at a ``clip`` at once.
        source: features to compare: the encoder's ``keys``, as published, or its ``tokens``; their channels
            are the heads' one after another.
    """

    def __init__(self, *, threshold: Cosine = 0.3, span: Span = "frame", source: Source = "keys") -> None:
        super().__init__(2, span, source, fixed=1)
        self.threshold = threshold
        self.needs = self.needs | {"attention"}

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        if patches.attention is None:
            raise SettingError("found: needs the encoder's attention maps. Choose another encoder.")
        attention = patches.attention.swapaxes(0, 1).reshape(patches.attention.shape[1], -1)
        weights = head_weights(attention)
        seed = int((weights @ attention).argmin())
        # Each head's channels count as much as the head weighs.
        heads, (count, dim) = len(weights), patches.tokens.shape
        if dim % heads:
            raise SettingError(
                f"found: {dim} channels don't divide into {heads} heads. Set -o grouper.source=keys."
            )
        weighted = patches.tokens.reshape(count, heads, -1) * weights[:, None]
        directions = unit(weighted.reshape(count, dim))
        background = directions @ directions[seed] > self.threshold
        background[seed] = True
        foreground: Ints = (~background.reshape(patches.shape)).astype(np.int64)
        return foreground


def head_weights(attention: Floats) -> Floats:
    """Weigh attention maps (heads, N), (heads,): the sparser, the larger; a single head has weight 1."""
    if len(attention) == 1:
        return np.ones(1, np.float32)
    shares = (attention > attention.mean(axis=1, keepdims=True)).mean(axis=1)
    shares = np.maximum(shares, 1 / attention.shape[1])  # a flat map has none above its mean
    weights: Floats = np.log(shares.sum() / shares).astype(np.float32)
    return weights
