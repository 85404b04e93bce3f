"""Clips to check components on: a few moving rectangles with masks, names and tracks, on noise."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TypeVar

import numpy as np
import torch
from torch import Generator, Tensor

from ovvol_bench.components import Component
from ovvol_bench.errors import ContractError
from ovvol_bench.testing.findings import NotCheckedError, expect
from ovvol_bench.types import ClipInfo, FrameTruth

Made = TypeVar("Made", bound=Component)

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


def make_draws(clips: Sequence[int]) -> list[Generator]:
    """The generator of each clip."""
    return [Generator().manual_seed(1000 + clip) for clip in clips]


def expect_equal(one: Tensor, other: Tensor, what: str) -> None:
    """Two answers must be the same to the last bit.

    Raises:
        ContractError: saying by how much they differ.
    """
    expect(
        one.shape == other.shape,
        f"{what}: shapes {tuple(one.shape)} and {tuple(other.shape)}; expected the same",
    )
    difference = (one.float() - other.float()).abs().max().item() if one.numel() else 0.0
    expect(torch.equal(one, other), f"{what}: answers differ by up to {difference:.3g}; expected the same")


def expect_close(one: Tensor, other: Tensor, what: str) -> None:
    """Two answers must be the same but for rounding.

    Raises:
        ContractError: saying by how much they differ.
    """
    expect(
        one.shape == other.shape,
        f"{what}: shapes {tuple(one.shape)} and {tuple(other.shape)}; expected the same",
    )
    scale = max(other.float().abs().max().item(), 1e-6) if other.numel() else 1.0
    difference = (one.float() - other.float()).abs().max().item() if one.numel() else 0.0
    expect(
        difference <= 1e-3 * scale,
        f"{what}: answers differ by up to {difference:.3g}, values are up to {scale:.3g}; expected the same",
    )


def prepared(component: Made) -> Made:
    """A copy that was made ready for bfloat16, see ``Component.prepare``.

    Raises:
        NotCheckedError: if the component has nothing to prepare.
    """
    if type(component).prepare is Component.prepare:
        raise NotCheckedError("it has nothing to prepare")
    copy = deepcopy(component)
    copy.prepare(torch.bfloat16)
    return copy


def expect_alike(one: Tensor, other: Tensor, what: str) -> None:
    """Two answers must be the same but for the rounding of bfloat16.

    Raises:
        ContractError: saying by how much they differ.
    """
    difference = (one.float() - other.float()).abs().mean().item()
    scale = other.float().abs().mean().item()
    expect(
        difference <= 0.05 * scale,
        f"{what}: answers differ by {difference:.3g} on average, values are {scale:.3g} on average; "
        "expected the same but for rounding to bfloat16",
    )


@contextmanager
def untouched(*inputs: Tensor) -> Iterator[None]:
    """Inputs, and the random state of torch and numpy, must be the same at the end.

    Raises:
        ContractError: saying what changed.
    """
    before = [each.clone() for each in inputs]
    state, numpy_state = torch.get_rng_state(), _numpy_state()
    yield
    for was, each in zip(before, inputs, strict=True):
        expect(
            torch.equal(was.nan_to_num(), each.nan_to_num()),
            "it wrote to its input; expected a copy to be changed",
        )
    drawn = not torch.equal(state, torch.get_rng_state())
    drawn = drawn or numpy_state != _numpy_state()
    expect(not drawn, "it drew from the global random state; expected its generators to be the only source")


def _numpy_state() -> bytes:
    return pickle.dumps(np.random.get_state())


def expect_others_sound(answer: Callable[[Tensor], Tensor], inputs: Tensor) -> None:
    """Where the first clip of a batch is no number, the others must be answered as ever.

    Args:
        answer: gives one row a clip.
        inputs: (B, ...) of B > 1 clips.

    Raises:
        ContractError: if another clip's answer changed, or nothing can be said of it.
    """
    broken = inputs.clone()
    broken[0] = torch.nan
    try:
        found = answer(broken)[1:]
    except ContractError as error:
        positions = getattr(error, "positions", None)
        expect(
            positions == (0,), f"clips {positions} of the batch are not finite; expected the first one only"
        )
        return
    expect_close(found, answer(inputs)[1:], "the other clips of the batch")


def gpu() -> torch.device:
    """The GPU to move components to.

    Raises:
        NotCheckedError: if there is none.
    """
    if not torch.cuda.is_available():
        raise NotCheckedError("no GPU here")
    return torch.device("cuda")
