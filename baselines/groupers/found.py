"""The foreground as the complement of the background, which is found first.

Siméoni et al., "Unsupervised object localization: observing the background to discover objects" (FOUND), CVPR
2023, section 3.1: the training-free first step, without the convolution that the paper learns on top of it.
"""

from __future__ import annotations

import numpy as np

from ovvol_bench import SettingError
from ovvol_bench.arrays import Floats, Ints

from .cuts import as_labels
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
        directions = unit(_weighted(patches.tokens, weights))
        background = directions @ directions[seed] > self.threshold
        background[seed] = True
        return as_labels(~background.reshape(patches.shape))


def head_weights(attention: Floats) -> Floats:
    """(heads,) weights of attention maps (heads, N): the sparser, the larger; a single head has weight 1."""
    if len(attention) == 1:
        return np.ones(1, np.float32)
    shares = (attention > attention.mean(axis=1, keepdims=True)).mean(axis=1)
    shares = np.maximum(shares, 1 / attention.shape[1])  # a flat map has none above its mean
    weights: Floats = np.log(shares.sum() / shares).astype(np.float32)
    return weights


def _weighted(tokens: Floats, weights: Floats) -> Floats:
    """(N, D) tokens, each head's channels times its weight."""
    heads, dim = len(weights), tokens.shape[1]
    if dim % heads:
        raise SettingError(
            f"found: {dim} channels don't divide into {heads} heads. Set -o grouper.source=keys."
        )
    by_head = tokens.reshape(len(tokens), heads, -1) * weights[:, None]
    return by_head.reshape(tokens.shape)
