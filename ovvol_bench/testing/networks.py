"""The contract of encoders, groupers and labelers: one list of promises, and what is a kind's own.

A promise is a method of `Contract` or of a kind's class; its docstring's first line is what users read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, Generic, TypeVar

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from ovvol_bench import pipeline
from ovvol_bench.components import (
    AnyLabeler,
    Component,
    Encoder,
    Grouper,
    GuidedLabeler,
    Labeler,
    SlotLabeler,
    VisionComponent,
)
from ovvol_bench.errors import ContractError
from ovvol_bench.testing.cases import GRIDS, ROUNDING, Batch, expect_same, make_infos, make_video, untouched
from ovvol_bench.testing.findings import NotCheckedError, Report, expect, run_checks
from ovvol_bench.types import Features

Network = TypeVar("Network", bound=Component)


def gpu() -> torch.device | None:
    """Return the device that networks are moved to, if there is one."""
    return torch.device("cuda") if torch.cuda.is_available() else None


class Contract(ABC, Generic[Network]):
    """A network and the clips that it is tried on.

    Args:
        network: as the harness would use it; is put in evaluation mode.
        name: that errors call it.
        frames: T of the clips.
    """

    def __init__(self, network: Network, name: str, frames: int) -> None:
        self.network: Network = network.eval()
        self.name, self.frames = name, frames

    @abstractmethod
    def batch(self, grid: tuple[int, int] = GRIDS[0], clips: int = 3) -> Batch:
        """Make clips whose frames have so many rows and columns of patches."""

    @abstractmethod
    def answer(self, batch: Batch) -> Tensor:
        """Ask the network as a run does; a row a clip."""

    @abstractmethod
    def declares(self) -> None:
        """Declares its attributes."""

    @abstractmethod
    def reads_only(self) -> None:
        """Leaves its input as it was, and the global random state."""

    def shapes(self) -> None:
        """Gives answers of the shape promised."""
        self.answer(self.batch())

    def odd_grids(self) -> None:
        """Takes grids of patches of any size."""
        self.answer(self.batch(GRIDS[1]))

    def single_clip(self) -> None:
        """Takes a single clip."""
        self.answer(self.batch(clips=1))

    def same_again(self) -> None:
        """Answers the same when asked again."""
        expect_same(self.answer(self.batch()), self.answer(self.batch()), "the same clips")

    def independent(self) -> None:
        """Answers for a clip alike in any batch."""
        batch = self.batch()
        among = self.answer(batch)[1:2]
        expect_same(among, self.answer(batch.rows([1])), "a clip in a batch of three and alone", ROUNDING)

    def keeps_nan_apart(self) -> None:
        """Keeps a clip that is no number to itself."""
        batch = self.batch()
        sound = self.answer(batch)[1:]
        for values in batch.tensors.values():
            values[0] = torch.nan
        try:
            found = self.answer(batch)[1:]
        except ContractError as error:
            positions = getattr(error, "positions", None)
            text = f"clips {positions} of the batch are not finite; expected the first one only"
            expect(positions == (0,), text)
        else:
            expect_same(found, sound, "the other clips of the batch", ROUNDING)

    def prepares(self) -> None:
        """Answers alike when made ready for bfloat16."""
        if type(self.network).prepare is Component.prepare:
            raise NotCheckedError("it has nothing to prepare")
        plain, batch = self.network, self.batch()
        # Against the plain network at the same precision: rounding alone may differ, not what is computed.
        with torch.autocast("cpu", torch.bfloat16):
            expected = self.answer(batch).float()
            self.network = deepcopy(plain)
            try:
                self.network.prepare(torch.bfloat16)
                difference = (self.answer(batch).float() - expected).abs().mean().item()
            finally:
                self.network = plain
        scale = expected.abs().mean().item()
        expect(
            difference <= 0.05 * scale,
            f"prepared and as built: answers differ by {difference:.3g} on average, values are {scale:.3g} "
            "on average; expected the same but for rounding to bfloat16",
        )

    def moves(self) -> None:
        """Works on a GPU, and answers there."""
        device, batch = gpu(), self.batch()
        if device is None:
            raise NotCheckedError("no GPU here")
        here = self.answer(batch)
        try:
            self.network.to(device)
            there = self.answer(batch.to(device))
            expect(there.device.type == device.type, f"its answer is on {there.device}; expected {device}")
            expect_same(there.cpu(), here, "on CPU and GPU", ROUNDING)
        finally:
            self.network.to("cpu")


def check_encoder(encoder: Encoder, name: str = "encoder", frames: int | None = None) -> Report:
    """Hold an encoder to its contract.

    Args:
        encoder: as the harness would use it; is put in evaluation mode.
        name: how findings call it.
        frames: T of the clips to try; by default about four.
    """
    step = getattr(encoder, "tubelet_size", 1)
    usual = step * max(1, min(4, encoder.max_frames or 4) // step)
    with torch.inference_mode():
        own = EncoderContract(encoder, name, frames or usual)
        checks = (
            own.declares, own.shapes, own.odd_grids, own.single_clip, own.gives_maps, own.same_again,
            own.independent, own.reads_only, own.keeps_nan_apart, own.prepares, own.moves,
        )  # fmt: skip
        return run_checks(f"encoder '{name}'", checks)


def check_grouper(grouper: Grouper, name: str = "grouper", dim: int = 32, frames: int = 4) -> Report:
    """Hold a grouper to its contract.

    Args:
        grouper: as the harness would use it; is put in evaluation mode.
        name: how findings call it.
        dim: D of the features to try, where the grouper is made for one.
        frames: S of the features, likewise.
    """
    with torch.inference_mode():
        own = GrouperContract(grouper, name, frames, dim)
        # Features that are no numbers never reach a grouper: encoders are held to that.
        checks = (
            own.declares, own.shapes, own.odd_grids, own.single_clip, own.same_again, own.independent,
            own.any_order, own.reads_only, own.prepares, own.moves,
        )  # fmt: skip
        return run_checks(f"grouper '{name}'", checks)


def check_labeler(labeler: AnyLabeler, name: str = "labeler", frames: int = 2, dim: int = 32) -> Report:
    """Hold a labeler to its contract.

    Args:
        labeler: as the harness would use it; is put in evaluation mode.
        name: how findings call it.
        frames: T of the clips to try.
        dim: D of the features that a labeler which an encoder guides gets.
    """
    with torch.inference_mode():
        own = LabelerContract(labeler, name, frames, dim)
        checks = (
            own.declares, own.shapes, own.odd_grids, own.single_clip, own.text_has_unit_length,
            own.text_stands_alone, own.same_again, own.independent, own.reads_only, own.keeps_nan_apart,
            own.prepares, own.moves,
        )  # fmt: skip
        return run_checks(f"labeler '{name}'", checks)


def clips_for(component: VisionComponent, grid: tuple[int, int], frames: int, clips: int) -> Batch:
    """Videos whose frames have so many rows and columns of a component's patches."""
    infos = make_infos((grid[0] * component.patch_size, grid[1] * component.patch_size), frames, clips)
    return Batch({"video": make_video(infos)}, infos, tuple(range(clips)))


def expect_pixels_declared(component: VisionComponent, *numbers: str) -> None:
    """A component that reads pixels must declare its statistics, its patches and further whole numbers."""
    for name in ("patch_size", *numbers):
        value = getattr(component, name, None)
        expect(isinstance(value, int) and value > 0, f"{name} is {value!r}; expected a whole number above 0")
    for name in ("mean", "std"):
        values = getattr(component, name, ())
        expect(len(values) == 3, f"{name} is {values!r}; expected three numbers, for red, green and blue")
    expect(all(value > 0 for value in component.std), f"std is {component.std}; expected numbers above 0")


class EncoderContract(Contract[Encoder]):
    """Promises of an encoder."""

    def batch(self, grid: tuple[int, int] = GRIDS[0], clips: int = 3) -> Batch:
        return clips_for(self.network, grid, self.frames, clips)

    def answer(self, batch: Batch) -> Tensor:
        return self.features(batch).grid

    def features(self, batch: Batch) -> Features:
        """Encode clips."""
        return pipeline.encode(self.network, batch.tensors["video"], self.name, batch.infos)

    def declares(self) -> None:
        """Declares patch_size, tubelet_size, dim, mean and std."""
        expect_pixels_declared(self.network, "tubelet_size", "dim")

    def shapes(self) -> None:
        """Gives features of every patch of every step."""
        super().shapes()

    def gives_maps(self) -> None:
        """Gives the maps that it declares on the grid of the features."""
        if not self.network.maps:
            raise NotCheckedError("it declares none")
        features = self.features(self.batch())
        batch, *grid = features.grid.shape[:-1]
        for name in sorted(self.network.maps):
            shape = tuple(features.maps[name].shape)
            on_grid = (shape[1], *shape[-2:]) if name == "attention" else shape[1:4]
            expect(
                shape[0] == batch and tuple(on_grid) == tuple(grid),
                f"map '{name}' has shape {shape}; expected the grid (B, S, h, w) = {(batch, *grid)} in it: "
                "(B, S, heads, h, w) for attention, (B, S, h, w, D) for others",
            )

    def reads_only(self) -> None:
        batch = self.batch()
        pixels = pipeline.fit(batch.tensors["video"], self.network)
        with untouched(pixels):
            self.network.encode(pixels, **({"truth": batch.infos} if self.network.needs_truth else {}))


class GrouperContract(Contract[Grouper]):
    """Promises of a grouper.

    Args:
        network: the grouper.
        name: that errors call it.
        frames: S of the features.
        dim: D of the features.
    """

    def __init__(self, network: Grouper, name: str, frames: int, dim: int) -> None:
        super().__init__(network, name, frames)
        self.dim = dim

    def batch(self, grid: tuple[int, int] = GRIDS[0], clips: int = 3) -> Batch:
        """Make features of a few smooth blobs, so that there is something to group; maps as it needs them."""
        rng = Generator().manual_seed(2)
        shape = (clips, self.frames, *grid)
        blob = torch.zeros(shape, dtype=torch.long)
        blob[:, :, : grid[0] // 2, : grid[1] // 2] = 1
        blob[:, :, grid[0] // 2 :, grid[1] // 2 :] = 2
        directions = torch.randn(clips, 3, self.dim, generator=rng)
        means = torch.stack([own[place] for own, place in zip(directions, blob, strict=True)])
        tensors = {"grid": means + 0.3 * torch.randn(*shape, self.dim, generator=rng)}
        for name in sorted(self.network.needs):
            if name == "attention":
                heads = torch.rand(*shape[:2], 2, *grid, generator=rng)
                tensors[name] = heads / heads.sum((-2, -1), keepdim=True)
            else:
                tensors[name] = tensors["grid"] + 0.1 * torch.randn(*shape, self.dim, generator=rng)
        infos = make_infos((grid[0] * 8, grid[1] * 8), self.frames, clips)
        return Batch(tensors, infos, tuple(range(1000, 1000 + clips)))

    def answer(self, batch: Batch) -> Tensor:
        maps = {name: values for name, values in batch.tensors.items() if name != "grid"}
        features = Features(batch.tensors["grid"], maps)
        return pipeline.group(self.network, features, batch.draws(), self.name, batch.infos).masks

    def declares(self) -> None:
        """Declares needs and max_objects."""
        needs, most = self.network.needs, self.network.max_objects
        expect(isinstance(needs, frozenset), f"needs is {needs!r}; expected a frozenset of names of maps")
        expect(most is None or most > 0, f"max_objects is {most}; expected None or a number above 0")

    def shapes(self) -> None:
        """Gives masks that sum to 1 over the slots."""
        super().shapes()

    def any_order(self) -> None:
        """Answers alike in any order of the clips."""
        batch = self.batch()
        back = self.answer(batch.rows([2, 1, 0])).flip(0)
        expect_same(back, self.answer(batch), "the clips forwards and backwards", ROUNDING)

    def reads_only(self) -> None:
        batch = self.batch()
        with untouched(*batch.tensors.values()):
            self.answer(batch)


class LabelerContract(Contract[AnyLabeler]):
    """Promises of a labeler.

    Args:
        network: the labeler.
        name: that errors call it.
        frames: T of the clips.
        dim: D of the features that guide it.
    """

    prompts = ("a photo of a dog", "a photo of a red panda", "a photo of grass")
    classes = ("dog", "red panda", None)

    def __init__(self, network: AnyLabeler, name: str, frames: int, dim: int) -> None:
        super().__init__(network, name, frames)
        self.dim = dim

    def batch(self, grid: tuple[int, int] = GRIDS[0], clips: int = 3) -> Batch:
        return clips_for(self.network, grid, self.frames, clips)

    def answer(self, batch: Batch) -> Tensor:
        """Ask for embeddings of patches, or of slots."""
        video, labeler = batch.tensors["video"], self.network
        if isinstance(labeler, Labeler):
            return pipeline.embed(labeler, video, self.name, batch.infos)
        if isinstance(labeler, GuidedLabeler):  # an encoder's features, made of each clip's pixels alone
            mix = torch.randn(3, self.dim, generator=Generator().manual_seed(3)).to(video.device)
            pooled = F.avg_pool2d(video.flatten(0, 1), labeler.patch_size).unflatten(0, video.shape[:2])
            features = Features(pooled.movedim(2, -1) @ mix)
            return pipeline.embed_guided(labeler, video, features, self.name, batch.infos)
        assert isinstance(labeler, SlotLabeler)
        # Three slots, two columns of patches each, on a grid that is not the labeler's.
        slots = (torch.arange(6, device=video.device) // 2).expand(*video.shape[:2], 4, -1).contiguous()
        return pipeline.embed_slots(labeler, video, (slots, 3), self.name, batch.infos)

    def text(self, rows: Sequence[int] = (0, 1, 2)) -> Tensor:
        """Embed some sentences."""
        told: dict[str, Any] = {}
        if self.network.needs_truth:
            told["truth"] = torch.tensor([1, 2, 0])[list(rows)].numpy()
        if self.network.needs_classes:
            told["classes"] = [self.classes[row] for row in rows]
        return self.network.embed_text([self.prompts[row] for row in rows], **told)

    def declares(self) -> None:
        """Declares patch_size, dim, mean and std."""
        expect_pixels_declared(self.network, "dim")

    def text_has_unit_length(self) -> None:
        """Gives a row of unit length for every sentence."""
        text, expected = self.text(), (len(self.prompts), self.network.dim)
        shape = tuple(text.shape)
        expect(shape == expected, f"embed_text: shape {shape}; expected {expected}, (P, E)")
        lengths = text.float().norm(dim=1)
        off = (lengths - 1).abs().max().item()
        expect(off < 0.01, f"embed_text: rows of length {lengths.tolist()}; expected 1")

    def text_stands_alone(self) -> None:
        """Embeds a sentence alike beside any others."""
        expect_same(self.text()[1:2], self.text([1]), "a sentence among three and alone", ROUNDING)

    def same_again(self) -> None:
        super().same_again()
        expect_same(self.text(), self.text(), "the same sentences")

    def reads_only(self) -> None:
        batch = self.batch()
        pixels = pipeline.fit(batch.tensors["video"], self.network)
        with untouched(pixels):
            if isinstance(self.network, Labeler):
                told = {"truth": batch.infos} if self.network.needs_truth else {}
                self.network.embed_patches(pixels, **told)
            else:
                self.answer(batch)
