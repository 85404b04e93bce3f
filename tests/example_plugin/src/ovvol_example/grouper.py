"""Every patch to the nearest of a few drawn ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from ovvol_bench import Features, Grouper, SlotMasks


class NearestSeeds(Grouper):
    """Give every patch to the nearest of a few patches drawn at random, softly.

    Args:
        num_slots: patches that are drawn, one a slot.
        temperature: softness of the assignment, in squared units of the features.
    """

    def __init__(self, *, num_slots: int = 6, temperature: float = 0.05) -> None:
        super().__init__()
        self.num_slots = self.max_objects = num_slots
        self.temperature = temperature

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        """Draw seeds clip by clip, compare all patches with them at once: (B, K, S, h, w)."""
        patches = features.grid.flatten(1, 3)
        seeds = torch.stack([self._drawn(clip, draw) for clip, draw in zip(patches, draws, strict=True)])
        distances = torch.cdist(seeds, patches).square()
        return SlotMasks((-distances / self.temperature).softmax(1).unflatten(2, features.grid.shape[1:4]))

    def _drawn(self, patches: Tensor, draw: Generator) -> Tensor:
        """(K, D) of (P, D): only ``draw`` decides, whatever else is in the batch."""
        return patches[torch.randint(len(patches), (self.num_slots,), generator=draw)]
