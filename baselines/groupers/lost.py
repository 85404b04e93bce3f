"""LOST: an object a clip, grown from the patch that is like the fewest others.

Siméoni et al., "Localizing objects with self-supervised transformers and no labels" (LOST), BMVC 2021,
section 3.
"""

from __future__ import annotations

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.registry.annotations import Rounds

from .patches import Patches, PatchGrouper, Source, Span, component_of


class Lost(PatchGrouper):
    """Grow one object, slot 1, from the patch that is like the fewest others.

    A patch's degree is how many patches its features have a positive product with. The seed is the patch of
    smallest degree; of the patches of smallest degrees those that are like the seed join it; the object is
    where the sum of products with them is positive, and hangs together with the seed. The paper keeps the box
    around it, which is what the harness makes of the slot.

    Args:
        neighbours: patches of smallest degree that may join the seed, for each frame (k).
        span: look at every ``frame``, as published, or at a ``clip`` at once.
        source: features to group by: the encoder's ``keys``, as published, or its ``tokens``.
    """

    def __init__(self, *, neighbours: Rounds = 100, span: Span = "frame", source: Source = "keys") -> None:
        super().__init__(2, span, source, fixed=1)
        self.neighbours = neighbours

    def segment(self, patches: Patches, rng: np.random.Generator) -> Ints:
        products = patches.tokens @ patches.tokens.T
        order = np.argsort((products > 0).sum(axis=1), kind="stable")
        seed, lowest = int(order[0]), order[: self.neighbours * len(patches.grid)]
        joined = lowest[products[seed, lowest] > 0]
        mask = products[joined].sum(axis=0) > 0
        mask[seed] = True  # where the features are zero nothing is positive
        return component_of(mask.reshape(patches.shape), seed).astype(np.int64)
