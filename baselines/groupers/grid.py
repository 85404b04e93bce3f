"""Equal cells: what a grouping is worth for its number of slots alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

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
        batch, steps, height, width = features.grid.shape[:4]  # of fewer patches than cells some stay empty
        row, column = _cell_of(height, self.rows), _cell_of(width, self.columns)
        cells = (row[:, None] * self.columns + column).to(features.grid.device)
        masks = F.one_hot(cells, self.rows * self.columns).permute(2, 0, 1).float()
        return SlotMasks(masks[None, :, None].expand(batch, -1, steps, -1, -1))


def _cell_of(patches: int, cells: int) -> Tensor:
    """(patches,) int64: the cell that the middle of each patch lies in."""
    return ((2 * torch.arange(patches) + 1) * cells) // (2 * patches)
