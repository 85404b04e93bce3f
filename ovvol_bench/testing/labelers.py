"""What a labeler promises, be it one of patches, of patches with an encoder's help, or of slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from ovvol_bench import pipeline
from ovvol_bench.components import AnyLabeler, GuidedLabeler, Labeler, SlotLabeler
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
from ovvol_bench.testing.encoders import declares_pixels
from ovvol_bench.testing.findings import NotCheckedError, Report, expect, run_checks
from ovvol_bench.types import ClipInfo, Features

PROMPTS = ("a photo of a dog", "a photo of a red panda", "a photo of grass")
CLASSES = ("dog", "red panda", None)
SLOTS = 3


@dataclass(frozen=True)
class _Case:
    labeler: AnyLabeler
    name: str
    frames: int
    dim: int

    def clips(self, grid: tuple[int, int] = GRIDS[0], clips: int = 3) -> tuple[Tensor, tuple[ClipInfo, ...]]:
        patch = self.labeler.patch_size
        infos = make_infos((grid[0] * patch, grid[1] * patch), self.frames, clips)
        return make_video(infos), infos

    def embed(self, video: Tensor, infos: tuple[ClipInfo, ...]) -> Tensor:
        """What the labeler says of clips, whatever its kind."""
        if isinstance(self.labeler, Labeler):
            return pipeline.embed(self.labeler, video, self.name, infos)
        if isinstance(self.labeler, GuidedLabeler):
            return pipeline.embed_guided(self.labeler, video, self._features(video), self.name, infos)
        assert isinstance(self.labeler, SlotLabeler)
        return pipeline.embed_slots(self.labeler, video, (self._slots(video), SLOTS), self.name, infos)

    def text(self, rows: Sequence[int] = range(len(PROMPTS))) -> Tensor:
        """Embeddings of some prompts."""
        told: dict[str, Any] = {}
        if self.labeler.needs_truth:
            told["truth"] = torch.tensor([1, 2, 0])[list(rows)].numpy()
        if self.labeler.needs_classes:
            told["classes"] = [CLASSES[row] for row in rows]
        return self.labeler.embed_text([PROMPTS[row] for row in rows], **told)

    def _features(self, video: Tensor) -> Features:
        """An encoder's, made of each clip's pixels alone."""
        patch = self.labeler.patch_size
        mix = torch.randn(3, self.dim, generator=Generator().manual_seed(3)).to(video.device)
        pooled = torch.nn.functional.avg_pool2d(video.flatten(0, 1), patch).unflatten(0, video.shape[:2])
        return Features(pooled.movedim(2, -1) @ mix)

    def _slots(self, video: Tensor) -> Tensor:
        """Columns of patches, on a grid that is not the labeler's."""
        columns = (torch.arange(2 * SLOTS, device=video.device) // 2).expand(*video.shape[:2], 4, -1)
        return columns.contiguous()


def check_labeler(labeler: AnyLabeler, name: str = "labeler", frames: int = 2, dim: int = 32) -> Report:
    """Hold a labeler to its contract.

    Args:
        labeler: as the harness would use it; is put in evaluation mode.
        name: how findings call it.
        frames: T of the clips to try.
        dim: D of the features that a labeler which an encoder guides gets.
    """
    case = _Case(labeler.eval(), name, frames, dim)
    checks = (
        _declares, _shapes, _odd_grids, _single_clip, _text_shapes, _text_alone, _same_again, _independent,
        _reads_only, _keeps_nan_apart, _prepares, _moves,
    )  # fmt: skip
    with torch.inference_mode():
        return run_checks(f"labeler '{name}'", case, checks)


def _declares(case: _Case) -> None:
    """Declares patch_size, dim, mean and std."""
    declares_pixels(case.labeler)
    dim = getattr(case.labeler, "dim", None)
    expect(isinstance(dim, int) and dim > 0, f"dim is {dim!r}; expected a whole number above 0")


def _shapes(case: _Case) -> None:
    """Gives embeddings of the shape promised."""
    case.embed(*case.clips())


def _odd_grids(case: _Case) -> None:
    """Takes frames of any size in whole patches."""
    case.embed(*case.clips(GRIDS[1]))


def _single_clip(case: _Case) -> None:
    """Takes a single clip."""
    case.embed(*case.clips(clips=1))


def _text_shapes(case: _Case) -> None:
    """Gives a row of unit length for every sentence."""
    text, expected = case.text(), (len(PROMPTS), case.labeler.dim)
    expect(
        tuple(text.shape) == expected, f"embed_text: shape {tuple(text.shape)}; expected {expected}, (P, E)"
    )
    lengths = text.float().norm(dim=1)
    off = (lengths - 1).abs().max().item()
    expect(off < 0.01, f"embed_text: rows of length {lengths.tolist()}; expected 1")


def _text_alone(case: _Case) -> None:
    """Embeds a sentence alike beside any others."""
    expect_close(case.text()[1:2], case.text([1]), "a sentence among three and alone")


def _same_again(case: _Case) -> None:
    """Answers the same when asked again."""
    clips = case.clips()
    expect_equal(case.embed(*clips), case.embed(*clips), "the same clips")
    expect_equal(case.text(), case.text(), "the same sentences")


def _independent(case: _Case) -> None:
    """Answers for a clip alike in any batch."""
    video, infos = case.clips()
    alone = case.embed(video[1:2], infos[1:2])
    expect_close(case.embed(video, infos)[1:2], alone, "a clip in a batch of three and alone")


def _reads_only(case: _Case) -> None:
    """Leaves its input as it was, and the global random state."""
    video, infos = case.clips()
    pixels = pipeline.fit(video, case.labeler)
    told: dict[str, Any] = {"truth": infos} if case.labeler.needs_truth else {}
    with untouched(pixels):
        if isinstance(case.labeler, Labeler):
            case.labeler.embed_patches(pixels, **told)
        else:
            case.embed(video, infos)


def _keeps_nan_apart(case: _Case) -> None:
    """Keeps a clip that is no number to itself."""
    video, infos = case.clips()
    expect_others_sound(lambda given: case.embed(given, infos), video)


def _prepares(case: _Case) -> None:
    """Answers alike when made ready for bfloat16."""
    ready = replace(case, labeler=prepared(case.labeler))
    clips = case.clips()
    with torch.autocast("cpu", torch.bfloat16):
        expect_alike(ready.embed(*clips), case.embed(*clips), "prepared and as built")


def _moves(case: _Case) -> None:
    """Works on a GPU, and answers there."""
    device, (video, infos) = gpu(), case.clips()
    if case.labeler.needs_truth:
        raise NotCheckedError("it is told the truth")
    here = case.embed(video, infos)
    try:
        case.labeler.to(device)
        there = case.embed(video.to(device), infos)
        expect(there.device.type == device.type, f"embeddings are on {there.device}; expected {device}")
        expect_close(there.cpu(), here, "on CPU and GPU")
    finally:
        case.labeler.to("cpu")
