"""No grouping: all patches of a clip are one slot, which shows what naming does by itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator

from ovvol_bench import Features, Grouper, SlotMasks


class Whole(Grouper):
    """Put all patches into one slot."""

    max_objects = 1

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        batch, *grid = features.grid.shape[:4]
        return SlotMasks(torch.ones(batch, 1, *grid, device=features.grid.device))
