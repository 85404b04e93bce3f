"""Patch colours against colour words."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ovvol_bench import Labeler

WORDS = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 1.0, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0),
    "magenta": (1.0, 0.0, 1.0),
}
GREY = (1.0, 1.0, 1.0)


class ColourWords(Labeler):
    """Put patches and the colour words of a sentence in one space: red, green, blue.

    Args:
        patch_size: side of a patch, pixels.
    """

    dim = 3
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)

    def __init__(self, *, patch_size: int = 16) -> None:
        super().__init__()
        self.patch_size = patch_size

    def embed_patches(self, video: Tensor) -> Tensor:
        """Mean colour of every patch: (B, T, 3, H, W) to (B, T, h, w, 3)."""
        pooled = F.avg_pool2d(video.flatten(0, 1), self.patch_size)
        return pooled.unflatten(0, video.shape[:2]).movedim(2, -1)

    def embed_text(self, prompts: Sequence[str]) -> Tensor:
        """Sum of a sentence's colour words, grey without any: (P, 3), rows of unit length."""
        return F.normalize(torch.stack([_colour(prompt) for prompt in prompts]), dim=-1)


def _colour(prompt: str) -> Tensor:
    named = [WORDS[word] for word in prompt.lower().split() if word in WORDS]
    return torch.tensor(named or [GREY]).sum(0)
