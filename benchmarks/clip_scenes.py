"""Clips of nine regions in three rows, of which is known what there is to find: slots, names and boxes."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ovvol_bench import Features
from ovvol_bench.naming.prompts import TextBank, build_prompts
from ovvol_bench.naming.settings import NamingSettings
from ovvol_bench.naming.vocabulary import imagenet_vid

REGIONS = 9
CLASSES = (1, 1, 0, 2, 0, 3, 0, 4, 4)
"""Class of each region, row by row; 0: background. Neighbours of one class are one object."""

GRIDS = {"small": (8, 12, 16), "paper": (8, 14, 25)}
"""(T, h, w) of the patches of a clip: preset `shapes`, and the paper's larger frames."""


def regions_of(grid: tuple[int, int, int]) -> Tensor:
    """(T, h, w) region of every patch."""
    frames, height, width = grid
    rows, columns = torch.arange(height) * 3 // height, torch.arange(width) * 3 // width
    return (3 * rows[:, None] + columns).expand(frames, -1, -1)


def features_of(grid: tuple[int, int, int], dim: int, clips: int = 1) -> Features:
    """A direction for every region, and as much noise; with keys and attention."""
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(REGIONS, dim, generator=draw)[regions_of(grid)].expand(clips, *grid, dim)
    values = values + torch.randn(values.shape, generator=draw)
    attention = torch.rand(clips, grid[0], 12, *grid[1:], generator=draw)
    return Features(values, {"keys": values, "attention": attention})


def draws(clips: int = 1) -> list[torch.Generator]:
    """One generator a clip."""
    return [torch.Generator().manual_seed(clip) for clip in range(clips)]


def text_of(dim: int) -> TextBank:
    """The prompts of ImageNet-VID's names and of background words: a direction a class, and some noise."""
    prompts = build_prompts(imagenet_vid(), NamingSettings())
    rng = np.random.default_rng(0)
    classes = rng.normal(size=(prompts.class_ids.max() + 1, dim))
    return TextBank.of(prompts, classes[prompts.class_ids] + 0.1 * rng.normal(size=(len(prompts), dim)))


def patches_of(grid: tuple[int, int, int], text: TextBank) -> Tensor:
    """(T, h, w, E) patch embeddings that are near the names of ``CLASSES``."""
    background = text.prompts.num_classes + 1
    first_prompt = [int(np.argmax(text.prompts.class_ids == (c or background))) for c in CLASSES]
    rows = torch.from_numpy(text.embeddings[first_prompt])
    noise = torch.randn(*grid, rows.shape[1], generator=torch.Generator().manual_seed(1))
    return rows[regions_of(grid)] + 0.05 * noise


def masks_of(grid: tuple[int, int, int], slots: int = REGIONS) -> Tensor:
    """(K, T, h, w) soft masks in which every region has a slot; slots beyond them win no patch."""
    logits = 4 * torch.nn.functional.one_hot(regions_of(grid), slots).movedim(-1, 0).float()
    return (logits + torch.rand(logits.shape, generator=torch.Generator().manual_seed(2))).softmax(dim=0)
