"""Random shapes: what a grouping is worth for its number of slots and compact cells alone.

No paper's. Where `grid` has cells of one shape, these are Voronoi's ("Nouvelles applications des paramètres
continus", 1908) of points drawn at random: every patch belongs to the nearest point.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ovvol_bench import Features, Grouper, SlotMasks
from ovvol_bench.registry.annotations import Slots


class Voronoi(Grouper):
    """Give every patch to the nearest of some random points, the same in all frames of a clip.

    Args:
        num_slots: random points and so cells K; two points near each other may leave one without a patch.
    """

    def __init__(self, *, num_slots: Slots = 15) -> None:
        super().__init__()
        self.num_slots = num_slots
        self.max_objects = num_slots

    def group(self, features: Features, draws: Sequence[Generator]) -> SlotMasks:
        steps, height, width = features.grid.shape[1:4]
        cells = torch.stack(
            [cells_of(points_in(self.num_slots, height, width, draw), height, width) for draw in draws]
        )
        masks = F.one_hot(cells, self.num_slots).movedim(-1, 1).float().to(features.grid.device)
        return SlotMasks(masks[:, :, None].expand(-1, -1, steps, -1, -1))


def points_in(count: int, height: int, width: int, draw: Generator) -> Tensor:
    """Draw rows and columns, (K, 2) float64, uniform over a grid whose patches have sides of 1."""
    sides = torch.tensor([height, width], dtype=torch.float64)
    return torch.rand(count, 2, generator=draw, dtype=torch.float64) * sides


def cells_of(points: Tensor, height: int, width: int) -> Tensor:
    """Return the (h, w) nearest of the points (K, 2) to the middle of each patch."""
    rows, columns = torch.arange(height), torch.arange(width)
    middles = torch.cartesian_prod(rows, columns).double().view(-1, 2) + 0.5
    return torch.cdist(middles, points).argmin(dim=1).view(height, width)
