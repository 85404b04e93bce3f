"""Pictures to examples: crops, mirror images, colours, and the normalisation on the device.

Pixels stay bytes until they are on the device, where they take a quarter of the way's memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as pixel

from ovvol_bench import SettingError
from ovvol_bench.benchmark import TrainingImages
from ovvol_bench.training import Batch, Draws, Examples

_ASPECTS = (3 / 4, 4 / 3)
_TRIES = 10


class Box(NamedTuple):
    """A part of a picture, pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Views:
    """How pictures are cut out and varied.

    Attributes:
        size: side of what is cut out, after resizing, pixels.
        smallest_crop: least share of the picture's area that a crop has, in (0, 1]; 1: as much as fits.
        flip: mirror half of the crops.
        quarter_turns: turn crops by 0, 90, 180 or 270 degrees.
        color_jitter: brightness, contrast and saturation are each multiplied by up to 1 +- this, in [0, 1].
        shuffle_colors: put red, green and blue in any order, and take the negative of half of the crops.
        bicubic: resize crops so; false: bilinear. Both with antialiasing.

    Raises:
        SettingError: if a number is out of range.
    """

    size: int
    smallest_crop: float = 0.08
    flip: bool = True
    quarter_turns: bool = False
    color_jitter: float = 0.0
    shuffle_colors: bool = False
    bicubic: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.smallest_crop <= 1:
            raise SettingError(f"recipe.smallest_crop={self.smallest_crop}: expected a share in (0, 1].")
        if not 0 <= self.color_jitter <= 1:
            raise SettingError(f"recipe.color_jitter={self.color_jitter}: expected a factor in [0, 1].")

    def varied(self, pixels: npt.NDArray[np.uint8], rng: np.random.Generator) -> Tensor:
        """One random view of a picture (H, W, 3): (3, size, size) uint8."""
        view = self._cut(pixels, random_box(pixels.shape[0], pixels.shape[1], self.smallest_crop, rng))
        if self.flip and rng.uniform() < 0.5:
            view = view.flip(2)
        if self.quarter_turns:
            view = view.rot90(int(rng.integers(4)), (1, 2))
        if self.shuffle_colors:
            view = view[torch.from_numpy(rng.permutation(3))]
            view = 255 - view if rng.uniform() < 0.5 else view
        return self._jittered(view, rng).contiguous()

    def plain(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """The largest square in the middle of a picture (H, W, 3): (3, size, size) uint8."""
        height, width = pixels.shape[:2]
        side = min(height, width)
        return self._cut(pixels, Box((height - side) // 2, (width - side) // 2, side, side))

    def _cut(self, pixels: npt.NDArray[np.uint8], box: Box) -> Tensor:
        picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        mode = InterpolationMode.BICUBIC if self.bicubic else InterpolationMode.BILINEAR
        cut: Tensor = pixel.resized_crop(picture, *box, [self.size, self.size], mode, antialias=True)
        return cut

    def _jittered(self, view: Tensor, rng: np.random.Generator) -> Tensor:
        if not self.color_jitter:
            return view
        least, most = 1 - self.color_jitter, 1 + self.color_jitter
        changes = (pixel.adjust_brightness, pixel.adjust_contrast, pixel.adjust_saturation)
        for number in rng.permutation(len(changes)):
            view = changes[number](view, float(rng.uniform(least, most)))
        return view


def random_box(height: int, width: int, smallest: float, rng: np.random.Generator) -> Box:
    """A crop of random area and aspect ratio (Szegedy et al., Going Deeper with Convolutions, CVPR 2015).

    As in the usual training on ImageNet: the area is uniform, the logarithm of the aspect ratio too,
    between 3:4 and 4:3; where ten draws do not fit, the largest crop in the middle of a ratio within.

    Args:
        height: of the picture, pixels.
        width: of the picture, pixels.
        smallest: least share of the picture's area, in (0, 1].
        rng: for the draws.
    """
    low, high = map(math.log, _ASPECTS)
    for _ in range(_TRIES):
        area = height * width * rng.uniform(smallest, 1)
        aspect = math.exp(rng.uniform(low, high))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            top, left = rng.integers(height - down + 1), rng.integers(width - across + 1)
            return Box(int(top), int(left), down, across)
    across, down = min(width, round(height * _ASPECTS[1])), min(height, round(width / _ASPECTS[0]))
    return Box((height - down) // 2, (width - across) // 2, down, across)


@dataclass(frozen=True)
class PictureExamples(Examples):
    """Pictures without their captions.

    Attributes:
        images: to learn from.
        views: how they are seen.
        varied: draw a random view; false: the middle, as it is.
    """

    images: TrainingImages
    views: Views
    varied: bool = True

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        """See `Examples.name`."""
        return self.images.name(index)

    def example(self, index: int, draws: Draws) -> Batch:
        """``pixels``: (3, size, size) uint8."""
        return {"pixels": self.view(self.images.image(index).pixels, draws)}

    def view(self, pixels: npt.NDArray[np.uint8], draws: Draws) -> Tensor:
        """What is seen of a picture: (3, size, size) uint8."""
        return self.views.varied(pixels, draws.numpy) if self.varied else self.views.plain(pixels)


def normalised(pixels: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """(B, 3, H, W) uint8 to float32, by the mean and deviation of values in [0, 1]."""
    values = pixels.float()
    center, spread = (255 * values.new_tensor(numbers).view(3, 1, 1) for numbers in (mean, std))
    return values.sub_(center).div_(spread)


def heat_maps(pixels: Tensor, weights: Tensor) -> npt.NDArray[np.uint8]:
    """Pictures in rows, each beside a map of weights, from dark (none) to light (the picture's most).

    Args:
        pixels: (B, 3, H, W) uint8.
        weights: (B, h, w) float, not negative.

    Returns:
        (B * H, 2 * W, 3) uint8.
    """
    pictures = pixels.permute(0, 2, 3, 1).cpu().numpy()
    levels = (255 * weights / weights.amax((1, 2), keepdim=True).clamp(min=1e-12)).byte().cpu().numpy()
    size = pictures.shape[2], pictures.shape[1]
    maps = [cv2.resize(level, size, interpolation=cv2.INTER_NEAREST) for level in levels]
    colored = [cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1] for level in maps]
    return np.concatenate([np.concatenate(pair, axis=1) for pair in zip(pictures, colored, strict=True)])
