"""Backgrounds of no kind: known ones turned, stretched and mixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.float32]

SOURCES = 3  # windows that one blend is made of

_ZOOM = (0.4, 2.5)  # of a source, times or over up to _STRETCH along each of its axes
_STRETCH = 2.0
_EDGE = (2.0, 20.0)  # how sharply one source gives way to another, for one unit of brightness
_FOLDED = 0.3  # share of blends whose brightness runs up and down again
_FOLDS = (1.0, 3.0)
_CONTRAST = (0.5, 1.6)


def blend(
    windows: Sequence[npt.NDArray[np.uint8]], rng: np.random.Generator, side: int
) -> npt.NDArray[np.uint8]:
    """A new background from those of several windows.

    Args:
        windows: ``SOURCES`` of them, (H, W, 3) RGB, of backgrounds alone.
        rng: for all draws.
        side: of the new one, pixels.

    Returns:
        (side, side, 3).
    """
    first, second, third = (_turned(window, rng, side) for window in windows)
    mixed = _MIXES[int(rng.integers(len(_MIXES)))](first, second, third, rng)
    if rng.uniform() < _FOLDED:
        mixed = np.abs((rng.uniform(*_FOLDS) * mixed + rng.uniform(0, 2)) % 2 - 1).astype(np.float32)
    mean = mixed.mean(axis=(0, 1))
    spread = mean + rng.uniform(*_CONTRAST) * (mixed - mean)
    return np.asarray(np.round(np.clip(spread, 0, 1) * 255), np.uint8)


def _turned(window: npt.NDArray[np.uint8], rng: np.random.Generator, side: int) -> Pixels:
    """A window in [0, 1], turned about its middle, zoomed and stretched; beyond its edges it is mirrored."""
    height, width = window.shape[:2]
    angle, stretch = rng.uniform(0, 2 * np.pi), np.exp(rng.uniform(-1, 1) * np.log(_STRETCH))
    zoom = np.exp(rng.uniform(*np.log(_ZOOM)))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = np.diag([zoom * stretch, zoom / stretch]) @ turn
    middle = np.array([width, height]) / 2
    matrix = np.column_stack([linear, np.full(2, side / 2) - linear @ middle])
    turned = cv2.warpAffine(window, matrix, (side, side), borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(turned, np.float32) / np.float32(255)


def _mean(first: Pixels, second: Pixels, _third: Pixels, rng: np.random.Generator) -> Pixels:
    share = np.float32(rng.uniform(0.3, 0.7))
    return np.asarray(share * first + (1 - share) * second)


def _darker(first: Pixels, second: Pixels, _third: Pixels, _rng: np.random.Generator) -> Pixels:
    return np.minimum(first, second)


def _lighter(first: Pixels, second: Pixels, _third: Pixels, _rng: np.random.Generator) -> Pixels:
    return np.maximum(first, second)


def _cut_out(first: Pixels, second: Pixels, third: Pixels, rng: np.random.Generator) -> Pixels:
    """The first where the third is dark, the second where it is light."""
    brightness = third.mean(axis=2, keepdims=True)
    level = np.quantile(brightness, rng.uniform(0.25, 0.75))
    share = np.clip(0.5 + rng.uniform(*_EDGE) * (brightness - level), 0, 1).astype(np.float32)
    return np.asarray(first + share * (second - first))


_MIXES: tuple[Callable[[Pixels, Pixels, Pixels, np.random.Generator], Pixels], ...] = (
    _mean,
    _darker,
    _lighter,
    _cut_out,
)
