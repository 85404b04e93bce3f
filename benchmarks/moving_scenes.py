"""Frames like those of a film, of any size, and the files that readers of frames are timed on.

A background of many scales drifts, textured discs move over it, and a little grain lies on top: at 720p a
JPEG of quality 85 is about 170 kB and H.264 takes a few Mbit a second, as real films do.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np

JPEG_QUALITY = 85
_DISCS = 5
_GRAIN = 3.0  # grey levels
_COLOUR = 0.4  # of the strength of grey


def texture(rng: np.random.Generator, size: tuple[int, int], finest: int) -> np.ndarray:
    """(H, W, 3) float32 around 0: noise of every scale from ``finest`` pixels up, stronger where coarse."""
    total = np.zeros((*size, 3), np.float32)
    scale = finest
    while scale < min(size):
        grid = size[0] // scale + 2, size[1] // scale + 2
        coarse = (rng.standard_normal((*grid, 1)) + _COLOUR * rng.standard_normal((*grid, 3))).astype(
            np.float32
        )
        total += scale**0.4 * cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
        scale *= 2
    return total / total.std()


def frames(count: int, size: tuple[int, int] = (720, 1280), seed: int = 0) -> Iterator[np.ndarray]:
    """(H, W, 3) uint8 RGB each; two pixels of drift a frame."""
    rng = np.random.default_rng(seed)
    height, width = size
    wide = 120 + 45 * texture(rng, (height, width + 2 * count), 2)
    discs = 110 + 60 * texture(rng, size, 2)
    grain = _GRAIN * rng.standard_normal((height + 64, width + 64, 3)).astype(np.float32)
    starts, steps = rng.uniform(0, 1, (_DISCS, 2)) * size, rng.uniform(-4, 4, (_DISCS, 2))
    for t in range(count):
        pixels = wide[:, 2 * t : 2 * t + width].copy()
        mask = np.zeros(size, np.uint8)
        for y, x in (starts + t * steps) % size:
            cv2.circle(mask, (int(x), int(y)), height // 8, 1, -1)
        np.copyto(pixels, discs, where=mask[..., None] > 0)
        top, left = rng.integers(0, 64, 2)
        yield np.clip(pixels + grain[top : top + height, left : left + width], 0, 255).astype(np.uint8)
