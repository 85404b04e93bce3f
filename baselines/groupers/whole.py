"""One slot for all patches: what naming makes of a clip without any grouping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator

from ovvol_bench import Features, Grouper, SlotMasks


class Whole(Grouper):
    """Slot 0 is everything."""

    max_objects = 1

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        """See `Grouper.group`."""
        batch, *grid = features.grid.shape[:4]
        return SlotMasks(torch.ones(batch, 1, *grid, device=features.grid.device))
