"""What a grouper promises. Features that are no numbers never reach one: encoders are held to that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ovvol_bench import pipeline
from ovvol_bench.components import Grouper
from ovvol_bench.testing.cases import (
    GRIDS,
    expect_alike,
    expect_close,
    expect_equal,
    gpu,
    make_draws,
    make_infos,
    prepared,
    untouched,
)
from ovvol_bench.testing.findings import NotCheckedError, Report, expect, run_checks
from ovvol_bench.types import Features

PATCH = 8
HEADS = 2


@dataclass(frozen=True)
class _Case:
    grouper: Grouper
    name: str
    dim: int
    frames: int

    def features(self, grid: tuple[int, int] = GRIDS[0], clips: int = 3) -> Features:
        """Features of a few smooth blobs, so that there is something to group; maps as the grouper needs."""
        rng = Generator().manual_seed(2)
        shape = (clips, self.frames, *grid)
        blob = torch.zeros(shape, dtype=torch.long)
        blob[:, :, : grid[0] // 2, : grid[1] // 2] = 1
        blob[:, :, grid[0] // 2 :, grid[1] // 2 :] = 2
        directions = torch.randn(clips, 3, self.dim, generator=rng)
        means = torch.stack([own[place] for own, place in zip(directions, blob, strict=True)])
        vectors = means + 0.3 * torch.randn(*shape, self.dim, generator=rng)
        return Features(vectors, {name: self._map(name, vectors, rng) for name in self.grouper.needs})

    def _map(self, name: str, vectors: Tensor, rng: Generator) -> Tensor:
        if name != "attention":
            return vectors + 0.1 * torch.randn(vectors.shape, generator=rng)
        heads = torch.rand(*vectors.shape[:2], HEADS, *vectors.shape[2:4], generator=rng)
        return heads / heads.sum((-2, -1), keepdim=True)

    def group(self, features: Features, draws: Sequence[Generator], clips: slice = slice(None)) -> Tensor:
        """Masks of some clips, cut out of all."""
        grid = features.grid.shape[2:4]
        infos = make_infos((grid[0] * PATCH, grid[1] * PATCH), self.frames, len(features.grid))[clips]
        return pipeline.group(self.grouper, of_clips(features, clips), draws, self.name, infos).masks


def of_clips(features: Features, clips: slice) -> Features:
    """Features of some clips of a batch."""
    return Features(features.grid[clips], {name: values[clips] for name, values in features.maps.items()})


def check_grouper(grouper: Grouper, name: str = "grouper", dim: int = 32, frames: int = 4) -> Report:
    """Hold a grouper to its contract.

    Args:
        grouper: as the harness would use it; is put in evaluation mode.
        name: how findings call it.
        dim: D of the features to try, where the grouper is made for one.
        frames: S of the features, likewise.
    """
    case = _Case(grouper.eval(), name, dim, frames)
    checks = (
        _declares, _shapes, _odd_grids, _single_clip, _same_again, _independent, _any_order, _reads_only,
        _prepares, _moves,
    )  # fmt: skip
    with torch.inference_mode():
        return run_checks(f"grouper '{name}'", case, checks)


def _declares(case: _Case) -> None:
    """Declares needs and max_objects."""
    needs, most = case.grouper.needs, case.grouper.max_objects
    expect(isinstance(needs, frozenset), f"needs is {needs!r}; expected a frozenset of names of maps")
    expect(most is None or most > 0, f"max_objects is {most}; expected None or a number above 0")


def _shapes(case: _Case) -> None:
    """Gives masks that sum to 1 over the slots."""
    case.group(case.features(), make_draws(range(3)))


def _odd_grids(case: _Case) -> None:
    """Takes grids of any size."""
    case.group(case.features(GRIDS[1]), make_draws(range(3)))


def _single_clip(case: _Case) -> None:
    """Takes a single clip."""
    case.group(case.features(clips=1), make_draws([0]))


def _same_again(case: _Case) -> None:
    """Answers the same when asked again with the same draws."""
    one, other = (case.group(case.features(), make_draws(range(3))) for _ in range(2))
    expect_equal(one, other, "the same features and draws")


def _independent(case: _Case) -> None:
    """Answers for a clip alike in any batch."""
    alone = case.group(case.features(), make_draws([1]), slice(1, 2))
    expect_close(
        case.group(case.features(), make_draws(range(3)))[1:2], alone, "a clip in a batch of three and alone"
    )


def _any_order(case: _Case) -> None:
    """Answers alike in any order of the clips."""
    features = case.features()
    if case.grouper.needs_truth:
        raise NotCheckedError("it is told the truth in the order of the clips")
    turned = Features(features.grid.flip(0), {name: values.flip(0) for name, values in features.maps.items()})
    forward, back = case.group(features, make_draws(range(3))), case.group(turned, make_draws([2, 1, 0]))
    expect_close(back.flip(0), forward, "the clips forwards and backwards")


def _reads_only(case: _Case) -> None:
    """Leaves its input as it was, and the global random state."""
    features = case.features()
    with untouched(features.grid, *features.maps.values()):
        case.group(features, make_draws(range(3)))


def _prepares(case: _Case) -> None:
    """Answers alike when made ready for bfloat16."""
    ready = replace(case, grouper=prepared(case.grouper))
    with torch.autocast("cpu", torch.bfloat16):
        expect_alike(
            ready.group(case.features(), make_draws(range(3))),
            case.group(case.features(), make_draws(range(3))),
            "prepared and as built",
        )


def _moves(case: _Case) -> None:
    """Works on a GPU, and answers there."""
    device, features = gpu(), case.features()
    here = case.group(features, make_draws(range(3)))
    maps: Mapping[str, Tensor] = {name: values.to(device) for name, values in features.maps.items()}
    try:
        moved = replace(case, grouper=case.grouper.to(device))
        there = moved.group(Features(features.grid.to(device), maps), make_draws(range(3)))
        expect(there.device.type == device.type, f"masks are on {there.device}; expected {device}")
        expect_close(there.cpu(), here, "on CPU and GPU")
    finally:
        case.grouper.to("cpu")
