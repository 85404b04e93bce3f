"""Equal cells: what a grouping is worth for its number of slots alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ovvol_bench import Features, Grouper, SettingError, SlotMasks
from ovvol_bench.registry.limits import MOST_SLOTS


class Grid(Grouper):
    """Cells of equal size, the same in every frame.

    Args:
        rows: cells from top to bottom.
        columns: cells from left to right.

    Raises:
        SettingError: if a number is below 1.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        for name, value in (("rows", rows), ("columns", columns)):
            if value < 1:
                raise SettingError(f"grid: {name}={value}; expected at least 1.")
        if rows * columns > MOST_SLOTS:
            raise SettingError(f"grid: rows={rows} x columns={columns}; expected at most {MOST_SLOTS} cells.")
        self.rows, self.columns = rows, columns
        self.max_objects = rows * columns

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        """See `Grouper.group`; a grid finer than the patches leaves cells empty."""
        batch, steps, height, width = features.grid.shape[:4]
        row, column = _cell_of(height, self.rows), _cell_of(width, self.columns)
        cells = (row[:, None] * self.columns + column).to(features.grid.device)
        masks = F.one_hot(cells, self.rows * self.columns).permute(2, 0, 1).float()
        return SlotMasks(masks[None, :, None].expand(batch, -1, steps, -1, -1))


def _cell_of(patches: int, cells: int) -> Tensor:
    """(patches,) int64: the cell that the middle of each patch lies in."""
    return ((2 * torch.arange(patches) + 1) * cells) // (2 * patches)
