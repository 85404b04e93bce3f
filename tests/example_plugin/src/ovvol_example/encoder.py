"""Mean colour and position of every patch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ovvol_bench import Encoder, Features


class PatchColours(Encoder):
    """Describe every patch by its mean colour and position.

    D = 5 channels: red, green, blue in [0, 1]; row and column in [0, ``position_weight``].

    Args:
        patch_size: side of a patch, pixels.
        position_weight: how much a frame's height or width counts beside the step from black to white.
    """

    tubelet_size = 1
    dim = 5
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, *, patch_size: int = 16, position_weight: float = 0.5) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.position_weight = position_weight

    def encode(self, video: Tensor) -> Features:
        """Pool (B, T, 3, H, W) over patches and append positions: (B, T, h, w, 5)."""
        pooled = F.avg_pool2d(video.flatten(0, 1), self.patch_size)
        colours = pooled.unflatten(0, video.shape[:2]).movedim(2, -1)
        rows, columns = (torch.linspace(0, 1, side).to(colours) for side in colours.shape[2:4])
        positions = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1) * self.position_weight
        return Features(torch.cat([colours, positions.expand(*colours.shape[:2], -1, -1, -1)], dim=-1))
