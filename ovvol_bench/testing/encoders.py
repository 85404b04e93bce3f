"""What an encoder promises."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ovvol_bench import pipeline
from ovvol_bench.components import Encoder, VisionComponent
from ovvol_bench.testing.cases import (
    GRIDS,
    expect_alike,
    expect_close,
    expect_equal,
    expect_others_sound,
    gpu,
    make_infos,
    make_video,
    prepared,
    untouched,
)
from ovvol_bench.testing.findings import NotCheckedError, Report, expect, run_checks
from ovvol_bench.types import ClipInfo, Features

MOST_FRAMES = 4


@dataclass(frozen=True)
class _Case:
    encoder: Encoder
    name: str
    frames: int

    def clips(self, grid: tuple[int, int] = GRIDS[0], clips: int = 3) -> tuple[Tensor, tuple[ClipInfo, ...]]:
        patch = self.encoder.patch_size
        infos = make_infos((grid[0] * patch, grid[1] * patch), self.frames, clips)
        return make_video(infos), infos

    def encode(self, video: Tensor, infos: tuple[ClipInfo, ...]) -> Features:
        return pipeline.encode(self.encoder, video, self.name, infos)


def check_encoder(encoder: Encoder, name: str = "encoder", frames: int | None = None) -> Report:
    """Hold an encoder to its contract.

    Args:
        encoder: as the harness would use it; is put in evaluation mode.
        name: how findings call it.
        frames: T of the clips to try; by default about four.
    """
    step = getattr(encoder, "tubelet_size", 1)
    usual = step * max(1, min(MOST_FRAMES, encoder.max_frames or MOST_FRAMES) // step)
    case = _Case(encoder.eval(), name, frames or usual)
    checks = (
        _declares, _shapes, _odd_grids, _single_clip, _maps, _same_again, _independent, _reads_only,
        _keeps_nan_apart, _prepares, _moves,
    )  # fmt: skip
    with torch.inference_mode():
        return run_checks(f"encoder '{name}'", case, checks)


def declares_pixels(component: VisionComponent) -> None:
    """What every component that reads pixels declares.

    Raises:
        ContractError: naming the attribute.
    """
    patch = getattr(component, "patch_size", None)
    expect(
        isinstance(patch, int) and patch > 0,
        f"patch_size is {patch!r}; expected pixels, a whole number above 0",
    )
    for name in ("mean", "std"):
        values = getattr(component, name, ())
        expect(len(values) == 3, f"{name} is {values!r}; expected three numbers, for red, green and blue")
    expect(all(value > 0 for value in component.std), f"std is {component.std}; expected numbers above 0")


def _declares(case: _Case) -> None:
    """Declares patch_size, tubelet_size, dim, mean and std."""
    declares_pixels(case.encoder)
    for name in ("tubelet_size", "dim"):
        value = getattr(case.encoder, name, None)
        expect(isinstance(value, int) and value > 0, f"{name} is {value!r}; expected a whole number above 0")


def _shapes(case: _Case) -> None:
    """Gives features of every patch of every step."""
    case.encode(*case.clips())


def _odd_grids(case: _Case) -> None:
    """Takes frames of any size in whole patches."""
    case.encode(*case.clips(GRIDS[1]))


def _single_clip(case: _Case) -> None:
    """Takes a single clip."""
    case.encode(*case.clips(clips=1))


def _maps(case: _Case) -> None:
    """Gives the maps that it declares on the grid of the features."""
    if not case.encoder.maps:
        raise NotCheckedError("it declares none")
    features = case.encode(*case.clips())
    batch, *grid = features.grid.shape[:-1]
    for name in sorted(case.encoder.maps):
        shape = tuple(features.maps[name].shape)
        on_grid = (shape[1], *shape[-2:]) if name == "attention" else shape[1:4]
        expect(
            shape[0] == batch and tuple(on_grid) == tuple(grid),
            f"map '{name}' has shape {shape}; expected the grid (B, S, h, w) = {(batch, *grid)} in it: "
            "(B, S, heads, h, w) for attention, (B, S, h, w, D) for others",
        )


def _same_again(case: _Case) -> None:
    """Answers the same when asked again."""
    clips = case.clips()
    expect_equal(case.encode(*clips).grid, case.encode(*clips).grid, "the same clips")


def _independent(case: _Case) -> None:
    """Answers for a clip alike in any batch."""
    video, infos = case.clips()
    alone = case.encode(video[1:2], infos[1:2]).grid
    expect_close(case.encode(video, infos).grid[1:2], alone, "a clip in a batch of three and alone")


def _reads_only(case: _Case) -> None:
    """Leaves its input as it was, and the global random state."""
    video, infos = case.clips()
    pixels = pipeline.fit(video, case.encoder)
    with untouched(pixels):
        case.encoder.encode(pixels, **({"truth": infos} if case.encoder.needs_truth else {}))


def _keeps_nan_apart(case: _Case) -> None:
    """Keeps a clip that is no number to itself."""
    video, infos = case.clips()
    expect_others_sound(lambda given: case.encode(given, infos).grid, video)


def _prepares(case: _Case) -> None:
    """Answers alike when made ready for bfloat16."""
    ready = replace(case, encoder=prepared(case.encoder))
    clips = case.clips()
    with torch.autocast("cpu", torch.bfloat16):
        expect_alike(ready.encode(*clips).grid, case.encode(*clips).grid, "prepared and as built")


def _moves(case: _Case) -> None:
    """Works on a GPU, and answers there."""
    device, (video, infos) = gpu(), case.clips()
    here = case.encode(video, infos).grid
    try:
        there = _Case(case.encoder.to(device), case.name, case.frames).encode(video.to(device), infos).grid
        expect(there.device.type == device.type, f"features are on {there.device}; expected {device}")
        expect_close(there.cpu(), here, "on CPU and GPU")
    finally:
        case.encoder.to("cpu")
