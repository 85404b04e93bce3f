"""Captions of pictures: how they are drawn, which are true of which, and the loss that asks for them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ovvol_bench import SettingError
from ovvol_bench.nn.clip.text import tokenize
from ovvol_bench.training import Batch, Draws, Examples

from .pictures import PictureExamples


@dataclass(frozen=True)
class Captions:
    """How captions are used.

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

    def draw(self, captions: Sequence[str], rng: np.random.Generator) -> str:
        """One of a picture's captions."""
        weights = self.decay ** np.arange(len(captions))
        return captions[int(rng.choice(len(captions), p=weights / weights.sum()))]


@dataclass(frozen=True)
class CaptionedExamples(Examples):
    """Pictures, each with one of its captions, and what tells which others are true of it.

    Attributes:
        pictures: as they are seen.
        captions: how they are used.
    """

    pictures: PictureExamples
    captions: Captions

    def __len__(self) -> int:
        return len(self.pictures)

    def name(self, index: int) -> str:
        """See `Examples.name`."""
        return self.pictures.name(index)

    def example(self, index: int, draws: Draws) -> Batch:
        """One picture.

        Returns:
            ``pixels`` (3, size, size) uint8; ``tokens`` (77,) int64 of the caption drawn, ``caption`` ()
            int64, its number, and ``true`` (``captions.most``,) int64, the numbers of all captions of the
            picture, the first one repeated. Equal captions have equal numbers.

        Raises:
            SettingError: if the picture has no caption, or more than ``captions.most``.
        """
        image = self.pictures.images.image(index)
        known = self._known(image.captions, index)
        pixels = self.pictures.view(image.pixels, draws)
        drawn = self.captions.draw(known, draws.numpy)
        numbers = [caption_number(caption) for caption in known]
        numbers += numbers[:1] * (self.captions.most - len(numbers))
        return {
            "pixels": pixels,
            "tokens": tokenize([drawn])[0],
            "caption": torch.tensor(caption_number(drawn)),
            "true": torch.tensor(numbers),
        }

    def _known(self, captions: tuple[str, ...], index: int) -> tuple[str, ...]:
        if not captions:
            raise SettingError(
                f"picture {self.name(index)!r} has no caption; the recipe clip learns from captions. "
                "Choose a dataset that gives one to every picture."
            )
        if len(captions) > self.captions.most:
            raise SettingError(
                f"picture {self.name(index)!r} has {len(captions)} captions; expected at most "
                f"{self.captions.most}. Set recipe.max_captions={len(captions)}."
            )
        return captions


def caption_number(caption: str) -> int:
    """The same number for the same words, in any process: 64 bits, signed."""
    words = " ".join(caption.lower().split())
    return int.from_bytes(hashlib.sha256(words.encode()).digest()[:8], "big", signed=True)


def truth(true: Tensor, captions: Tensor) -> Tensor:
    """Which captions are true of which pictures: (P, most) and (C,) numbers to (P, C) bool."""
    return (true[:, :, None] == captions).any(dim=1)


def match(logits: Tensor, true: Tensor) -> tuple[Tensor, Tensor]:
    """Contrastive loss where several answers may be true.

    Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022, equation 2, one way:
    the target is shared evenly by all true answers. With one each it is CLIP's loss.

    Args:
        logits: (B, N) float.
        true: (B, N) bool, at least one in a row.

    Returns:
        Mean loss, and the share of rows whose largest logit is a true one.
    """
    share = true / true.sum(dim=1, keepdim=True)
    loss = -(share * logits.log_softmax(dim=1)).sum(dim=1).mean()
    best = logits.argmax(dim=1, keepdim=True)
    return loss, true.gather(1, best).float().mean()
