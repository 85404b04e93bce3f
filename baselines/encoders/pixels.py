"""Colour and position of patches: what groupers find without any learned feature.

The space in which Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", PAMI
2012, section 3, cluster pixels, with mean RGB of a patch for the CIELAB colour of a pixel.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor

from ovvol_bench import Encoder, Features
from ovvol_bench.registry.annotations import Side


class Pixels(Encoder):
    """Describe a patch by its mean red, green and blue, and row and column of its middle, all in [-1, 1].

    Args:
        patch_size: side of a patch, pixels.
        position_weight: factor of row and column beside colour; 0 leaves colour alone.
    """

    tubelet_size, dim = 1, 5
    mean = std = (0.5, 0.5, 0.5)

    def __init__(self, *, patch_size: Side = 16, position_weight: Annotated[float, Ge(0)] = 1.0) -> None:
        super().__init__()
        self.patch_size, self.position_weight = patch_size, position_weight

    def encode(self, video: Tensor) -> Features:
        colours = F.avg_pool2d(video.flatten(0, 1).float(), self.patch_size).movedim(1, -1)
        frames, height, width, _ = colours.shape
        middles = ((2 * torch.arange(cells) + 1) / cells - 1 for cells in (height, width))
        places = torch.meshgrid(*middles, indexing="ij")
        positions = self.position_weight * torch.stack(places, dim=-1).to(colours)
        grid = torch.cat([colours, positions.expand(frames, -1, -1, -1)], dim=-1)
        return Features(grid.unflatten(0, video.shape[:2]))
