"""Equal cells: what a grouping is worth for its number of slots alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator

from ovvol_bench import Features, Grouper, SettingError, SlotMasks
from ovvol_bench.registry.annotations import MOST_SLOTS, Slots


class Grid(Grouper):
    """Cut every frame into the same equal cells.

    Args:
        rows: cells from top to bottom.
        columns: cells from left to right.

    Raises:
        SettingError: if there are more cells than a clip may have slots.
    """

    def __init__(self, *, rows: Slots = 3, columns: Slots = 5) -> None:
        super().__init__()
        if rows * columns > MOST_SLOTS:
            raise SettingError(f"grid: rows={rows} x columns={columns}; expected at most {MOST_SLOTS} cells.")
        self.rows, self.columns = rows, columns
        self.max_objects = rows * columns

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        batch, steps, height, width = features.grid.shape[:4]
        # A patch belongs to the cell that its middle lies in.
        row = (2 * torch.arange(height) + 1) * self.rows // (2 * height)
        column = (2 * torch.arange(width) + 1) * self.columns // (2 * width)
        cells = (row[:, None] * self.columns + column).to(features.grid.device)
        # Where there are fewer patches than cells some stay empty.
        masks = F.one_hot(cells, self.rows * self.columns).permute(2, 0, 1).float()
        return SlotMasks(masks[None, :, None].expand(batch, -1, steps, -1, -1))
