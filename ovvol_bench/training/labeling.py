"""Recipes of labelers: views of pictures, their captions, and a loss of one's own."""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode  # type: ignore[import-untyped]
from torchvision.transforms.v2 import functional as pixel

from ovvol_bench.components import Labeler
from ovvol_bench.data.base import TrainingImages
from ovvol_bench.errors import SettingError
from ovvol_bench.nn.clip.text import tokenize
from ovvol_bench.registry.annotations import BatchSize
from ovvol_bench.training.optimization import Optimization, check_final_rate, warmup_cosine
from ovvol_bench.training.pictures import feature_picture
from ovvol_bench.training.recipe import (
    Batch,
    Draws,
    Examples,
    Losses,
    Recipe,
    TrainingTask,
    component_of,
    normalised,
)
from ovvol_bench.weights import save_state

_USUAL_SIDE = 224  # pixels
_ASPECTS = (3 / 4, 4 / 3)  # width over height of crops
_TRIES = 10  # draws of a crop before the largest one is taken


class LabelerRecipe(Recipe):
    """Train a labeler on pictures and their captions.

    A recipe of one's own gives `losses`, assigns what is trained beside the labeler, and sets `loss_scope`
    where it compares examples. Views, captions, validation, pictures and saving are here, and may be changed.
    Validation sees the middle of each picture.

    Args:
        task: what to train, and on what.
        optimizer: ``adamw``, ``adam`` or ``sgd``.
        batch_size: pictures an optimizer step, over all processes.
        learning_rate: at its highest.
        final_learning_rate: what half a cosine takes it to.
        warmup_steps: steps in which it rises.
        epochs: passes over the pictures.
        momentum: of SGD.
        betas: of Adam and AdamW.
        weight_decay: decoupled for AdamW, L2 for the others.
        clip_gradients: largest norm of all gradients together; none: not clipped.
        smallest_crop: least share of a picture's area that a random crop has; 1: as much as fits.
        interpolation: that crops are resized with, antialiased.
        flip: mirror half of the pictures.
        quarter_turns: turn pictures by 0, 90, 180 or 270 degrees.
        color_jitter: brightness, contrast and saturation are each multiplied by up to 1 +- this.
        shuffle_colors: put red, green and blue in any order, and take the negative of half of the pictures;
            for captions that say nothing of colours.
        caption_decay: each pass draws one caption a picture, each further one this much less often than
            the one before; 1: all alike.
        max_captions: captions that a picture may have.

    Attributes:
        labeler: in training.
        reads_captions: whether examples have captions; set it before ``super().__init__``.

    Raises:
        SettingError: if a number is out of range, or a picture has no caption or too many.
    """

    labeler: Labeler
    validation: ImageExamples | None = None
    reads_captions: bool = True

    def __init__(  # noqa: PLR0913 - keywords are the settings
        self,
        task: TrainingTask,
        *,
        optimizer: Literal["adamw", "adam", "sgd"] = "adamw",
        batch_size: BatchSize = 32768,
        learning_rate: float = 5e-4,
        final_learning_rate: float = 0.0,
        warmup_steps: int = 2000,
        epochs: float = 32,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.9, 0.98),
        weight_decay: float = 0.2,
        clip_gradients: float | None = None,
        smallest_crop: float = 0.9,
        interpolation: Literal["bilinear", "bicubic"] = "bilinear",
        flip: bool = False,
        quarter_turns: bool = False,
        color_jitter: float = 0.0,
        shuffle_colors: bool = False,
        caption_decay: float = 1.0,
        max_captions: int = 16,
    ) -> None:
        super().__init__()

        def factor(step: int, total: int) -> float:
            return warmup_cosine(step, total, warmup_steps, final_learning_rate / learning_rate)

        self.labeler = component_of(task, Labeler)
        self.optimization = Optimization(
            optimizer,
            learning_rate,
            factor=factor,
            batch_size=batch_size,
            epochs=epochs,
            weight_decay=weight_decay,
            betas=betas,
            momentum=momentum,
            clip_gradients=clip_gradients,
        )
        check_final_rate(final_learning_rate, learning_rate)
        views = Views(
            self.picture_size(),
            smallest_crop,
            flip,
            quarter_turns,
            color_jitter,
            shuffle_colors,
            bicubic=interpolation == "bicubic",
        )
        captions = Captions(caption_decay, max_captions)
        read = captions if self.reads_captions else None
        self.examples = ImageExamples(task.dataset.training_images(), views, read)
        if task.validation is not None:
            images = task.validation.training_images()
            self.validation = ImageExamples(images, views, read, varied=False)

    @abstractmethod
    def losses(self, images: Tensor, batch: Batch) -> Losses:
        """Compute the losses of a batch of pictures.

        Args:
            images: (B, 3, side, side) float32, normalised with the labeler's ``mean`` and ``std``.
            batch: ``images``, and what `ImageExamples` gives.

        Returns:
            ``loss``, which is minimised, and other scalars that are worth a curve.
        """

    def picture_size(self) -> int:
        """Return the side of the pictures, pixels: near 224, a multiple of the labeler's ``patch_size``."""
        patch = self.labeler.patch_size
        return max(1, round(_USUAL_SIDE / patch)) * patch

    def forward(self, batch: Batch) -> Losses:
        return self.losses(batch["images"], batch)

    def prepare(self, batch: Batch) -> Batch:
        # As late as that can be: bytes take a quarter of the memory on the way to the device.
        return {**batch, "images": normalised(batch["pixels"], self.labeler.mean, self.labeler.std)}

    def pictures(self, batch: Batch) -> Mapping[str, npt.NDArray[np.uint8]]:
        """Draw ``patches``: some pictures, and the principal components of their patch embeddings."""
        patches = self.labeler.embed_patches(batch["images"][:, None])
        return {"patches": feature_picture(patches, batch["pixels"].permute(0, 2, 3, 1)[:, None])}

    def save_weights(self, path: Path, about: Mapping[str, str]) -> None:
        save_state(self.labeler, path, about)


@dataclass(frozen=True)
class Captions:
    """Choice of a picture's captions.

    Attributes:
        decay: how often each further caption of a picture is drawn, over the one before, in (0, 1].
        most: captions that a picture may have.

    Raises:
        SettingError: if a number is out of range.
    """

    decay: float = 1.0
    most: int = 16

    def __post_init__(self) -> None:
        if not 0 < self.decay <= 1:
            raise SettingError(f"recipe.caption_decay={self.decay}: expected a factor in (0, 1].")
        if self.most < 1:
            raise SettingError(f"recipe.max_captions={self.most}: expected at least 1.")

    def draw(self, captions: tuple[str, ...], rng: np.random.Generator) -> str:
        """Draw one of a picture's captions, which come with the likelier ones first."""
        weights = self.decay ** np.arange(len(captions))
        return captions[int(rng.choice(len(captions), p=weights / weights.sum()))]


@dataclass(frozen=True)
class ImageExamples(Examples):
    """Pictures, each with one of its captions if wanted, and the numbers of all that are true of it.

    Attributes:
        images: to learn from.
        views: crops and changes of colour.
        captions: their choice; None: captions are not read.
        varied: draw a random view; false: the middle, as it is.
    """

    images: TrainingImages
    views: Views
    captions: Captions | None = None
    varied: bool = True

    def __len__(self) -> int:
        return len(self.images)

    def name(self, index: int) -> str:
        return self.images.name(index)

    def example(self, index: int, draws: Draws) -> Batch:
        """Read one picture.

        Returns:
            ``pixels`` (3, side, side) uint8. With captions also ``tokens`` (77,) int64 of the caption drawn,
            as `tokenize` gives them; ``caption`` () int64, its number; and ``true`` (``captions.most``,)
            int64, the numbers of all captions of the picture, the first one repeated. Equal captions have
            equal numbers.

        Raises:
            SettingError: if the picture has no caption, or more than ``captions.most``.
        """
        image = self.images.image(index)
        if self.captions is not None and not 0 < len(image.captions) <= self.captions.most:
            self._refuse(index, len(image.captions), self.captions.most)
        seen = self.views.varied(image.pixels, draws.numpy) if self.varied else self.views.plain(image.pixels)
        if self.captions is None:
            return {"pixels": seen}
        drawn = self.captions.draw(image.captions, draws.numpy)
        numbers = [caption_number(caption) for caption in image.captions]
        numbers += numbers[:1] * (self.captions.most - len(numbers))  # tensors of a batch have one shape
        return {
            "pixels": seen,
            "tokens": tokenize([drawn])[0],
            "caption": torch.tensor(caption_number(drawn)),
            "true": torch.tensor(numbers),
        }

    def _refuse(self, index: int, count: int, most: int) -> None:
        if not count:
            raise SettingError(
                f"picture {self.name(index)!r} has no caption; this recipe learns from captions. "
                "Choose a dataset that gives one to every picture."
            )
        raise SettingError(
            f"picture {self.name(index)!r} has {count} captions; expected at most {most}. "
            f"Set recipe.max_captions={count}."
        )


def caption_number(caption: str) -> int:
    """Number a caption: the same for the same words, in any process; 64 bits, signed."""
    words = " ".join(caption.lower().split())
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big", signed=True)


class Box(NamedTuple):
    """A part of a picture, pixels."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Views:
    """Crops, turns and colours of pictures.

    Attributes:
        size: side of the crops, after resizing, pixels.
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
        """Draw a view of a picture (H, W, 3): (3, size, size) uint8."""
        view = self._cut(pixels, random_box(pixels.shape[0], pixels.shape[1], self.smallest_crop, rng))
        if self.flip and rng.uniform() < 0.5:
            view = view.flip(2)
        if self.quarter_turns:
            view = view.rot90(int(rng.integers(4)), (1, 2))
        if self.shuffle_colors:
            view = view[torch.from_numpy(rng.permutation(3))]
            view = 255 - view if rng.uniform() < 0.5 else view
        if self.color_jitter:
            least, most = 1 - self.color_jitter, 1 + self.color_jitter
            changes = (pixel.adjust_brightness, pixel.adjust_contrast, pixel.adjust_saturation)
            for number in rng.permutation(len(changes)):
                view = changes[number](view, float(rng.uniform(least, most)))
        return view.contiguous()

    def plain(self, pixels: npt.NDArray[np.uint8]) -> Tensor:
        """Cut the largest square out of the middle of a picture (H, W, 3): (3, size, size) uint8."""
        height, width = pixels.shape[:2]
        side = min(height, width)
        return self._cut(pixels, Box((height - side) // 2, (width - side) // 2, side, side))

    def _cut(self, pixels: npt.NDArray[np.uint8], box: Box) -> Tensor:
        picture = torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)
        mode = InterpolationMode.BICUBIC if self.bicubic else InterpolationMode.BILINEAR
        cut: Tensor = pixel.resized_crop(picture, *box, [self.size, self.size], mode, antialias=True)
        return cut


def random_box(height: int, width: int, smallest: float, rng: np.random.Generator) -> Box:
    """Draw a crop of random area and aspect ratio.

    Szegedy et al., "Going Deeper with Convolutions", CVPR 2015. As in the usual training on ImageNet: the
    area is uniform, the logarithm of the aspect ratio too, between 3:4 and 4:3; where ten draws do not fit,
    the largest crop in the middle of a ratio within.

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
