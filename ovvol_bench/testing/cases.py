"""Clips to check components on: a few moving rectangles with masks, names and tracks, on noise."""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from ovvol_bench.testing.findings import expect
from ovvol_bench.types import ClipInfo, FrameTruth

GRIDS = ((4, 6), (5, 3))
"""Patches of a frame, (rows, columns): wide and even, tall and odd."""


def make_infos(size: tuple[int, int], frames: int, clips: int = 3) -> tuple[ClipInfo, ...]:
    """Clips of one or two rectangles that move to the right.

    Args:
        size: (height, width) of a frame, pixels; at least 16 each.
        frames: T.
        clips: number of clips, each a video of its own.
    """
    return tuple(
        ClipInfo(
            f"clip {i}",
            f"video {i}",
            tuple(range(frames)),
            size,
            tuple(_truth(size, i, t) for t in range(frames)),
        )
        for i in range(clips)
    )


def _truth(size: tuple[int, int], clip: int, time: int) -> FrameTruth:
    height, width = size
    objects = 1 + clip % 2
    boxes = np.zeros((objects, 4), np.float32)
    masks = np.zeros((objects, height, width), np.bool_)
    for n in range(objects):
        top, left = n * height // 2, min(time + n, width // 2)
        bottom, right = top + height // 3, left + width // 3
        boxes[n] = left, top, right, bottom
        masks[n, top : bottom + 1, left : right + 1] = True
    ids = np.arange(objects, dtype=np.int64)
    nothing = np.zeros(objects, np.bool_)
    return FrameTruth(boxes, ids + 1, ids, nothing, nothing, np.full(objects, np.nan, np.float32), masks)


def make_video(infos: Sequence[ClipInfo]) -> Tensor:
    """(B, T, 3, H, W) float32 in [0, 1]: noise, and each object in a colour of its own."""
    height, width = infos[0].frame_size
    frames = len(infos[0].frame_indices)
    video = 0.3 * torch.rand(len(infos), frames, 3, height, width, generator=Generator().manual_seed(0))
    for b, info in enumerate(infos):
        for t, truth in enumerate(info.truth or ()):
            for n, mask in enumerate(truth.masks if isinstance(truth.masks, np.ndarray) else ()):
                video[b, t, n % 3][torch.from_numpy(mask)] = 0.9
    return video


@dataclass(frozen=True)
class Batch:
    """Clips to try a network on.

    Attributes:
        tensors: that the network reads, a row a clip: ``video``, or ``grid`` and maps of features.
        infos: identity and truth of each clip.
        seeds: of each clip's generator.
    """

    tensors: Mapping[str, Tensor]
    infos: tuple[ClipInfo, ...]
    seeds: tuple[int, ...]

    def rows(self, numbers: Sequence[int]) -> Batch:
        """Some clips, in an order of one's own."""
        return Batch(
            {name: values[list(numbers)] for name, values in self.tensors.items()},
            tuple(self.infos[number] for number in numbers),
            tuple(self.seeds[number] for number in numbers),
        )

    def to(self, device: torch.device) -> Batch:
        """The same clips on another device."""
        return replace(self, tensors={name: values.to(device) for name, values in self.tensors.items()})

    def draws(self) -> list[Generator]:
        """A fresh generator for every clip."""
        return [Generator().manual_seed(seed) for seed in self.seeds]


def expect_same(one: Tensor, other: Tensor, what: str, tolerance: float = 0) -> None:
    """Two answers must be the same.

    Args:
        one: an answer.
        other: another.
        what: names the two for the message.
        tolerance: share of the largest value by which they may differ; 0: they are the same to the last bit.

    Raises:
        ContractError: saying by how much they differ.
    """
    shapes = f"{what}: shapes {tuple(one.shape)} and {tuple(other.shape)}; expected the same"
    expect(one.shape == other.shape, shapes)
    difference = (one.float() - other.float()).abs().max().item() if one.numel() else 0.0
    scale = max(other.float().abs().max().item(), 1e-6) if other.numel() else 1.0
    expect(
        torch.equal(one, other) or difference <= tolerance * scale,
        f"{what}: answers differ by up to {difference:.3g}, values are up to {scale:.3g}; expected the same",
    )


ROUNDING = 1e-3
"""Tolerance of `expect_same` for sums in another order."""


@contextmanager
def untouched(*inputs: Tensor) -> Iterator[None]:
    """Inputs, and the random state of torch and numpy, must be the same at the end.

    Raises:
        ContractError: saying what changed.
    """
    before = [each.clone() for each in inputs]
    state, numpy_state = torch.get_rng_state(), pickle.dumps(np.random.get_state())
    yield
    for was, each in zip(before, inputs, strict=True):
        expect(
            torch.equal(was.nan_to_num(), each.nan_to_num()),
            "it wrote to its input; expected a copy to be changed",
        )
    same = torch.equal(state, torch.get_rng_state()) and numpy_state == pickle.dumps(np.random.get_state())
    expect(same, "it drew from the global random state; expected its generators to be the only source")
