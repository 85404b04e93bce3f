"""A plugin with components small enough to run a matrix in milliseconds; ways to fail are settings."""

import hashlib
from typing import Annotated

import numpy as np
import torch

from ovvol_bench import (
    Clip,
    ClipInfo,
    Dataset,
    DecodeError,
    Encoder,
    Entry,
    Features,
    FrameTruth,
    FromEncoder,
    Grouper,
    GuidedLabeler,
    Labeler,
    Located,
    SlotLabeler,
    SlotMasks,
    Vocabulary,
    Weights,
    hookimpl,
)
from ovvol_bench.components import AnyLabeler
from ovvol_bench.naming.vocabulary import ForegroundClass

PATCH = 8
SIZES = ((32, 48), (40, 32))
COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.2)}


def patch_means(video):
    """(B, T, h, w, 3) mean colour of every patch."""
    batch, frames, _, height, width = video.shape
    patches = video.reshape(batch, frames, 3, height // PATCH, PATCH, width // PATCH, PATCH)
    return patches.mean(dim=(4, 6)).permute(0, 1, 3, 4, 2)


class TinyEncoder(Encoder):
    patch_size = PATCH
    tubelet_size = 1
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.calls = 0
        self.mix = torch.nn.Linear(3, dim - 1)

    def encode(self, video):
        self.calls += 1
        colours = patch_means(video)
        # Black clips have no mean to divide by: NaN.
        relative = colours / colours.mean(dim=(1, 2, 3, 4), keepdim=True)
        saturation = relative.amax(-1, keepdim=True) - relative.amin(-1, keepdim=True)
        return Features(torch.cat([saturation, self.mix(relative)], dim=-1))


class TinyGrouper(Grouper):
    """Slot 0 takes what is colourful, the others random directions."""

    def __init__(self, num_slots: int) -> None:
        super().__init__()
        self.num_slots = num_slots

    def group(self, features, draws):
        dim = features.grid.shape[-1]
        queries = torch.stack([torch.randn(self.num_slots, dim, generator=draw) for draw in draws])
        weights = torch.einsum("bthwd,bkd->bkthw", features.grid, queries)
        weights[:, 0] = 20 * features.grid[..., 0] - 10
        return SlotMasks(weights.softmax(dim=1))


class NeedyGrouper(TinyGrouper):
    needs = frozenset({"keys"})


class BrokenGrouper(TinyGrouper):
    def group(self, features, draws):
        raise ZeroDivisionError("the grouper fell over")


class ToldGrouper(Grouper):
    """Slot 0 takes the two columns of patches from the one in which the true box begins."""

    needs_truth = True

    def group(self, features, draws, truth=()):
        steps, height, width = features.grid.shape[1:4]
        masks = torch.zeros(len(truth), 2, steps, height, width)
        for clip, info in enumerate(truth):
            for step, frame in enumerate(info.truth):
                left = int(frame.boxes[0, 0]) // PATCH
                masks[clip, 0, step, :, left : left + 2] = 1
        masks[:, 1] = 1 - masks[:, 0]
        return SlotMasks(masks)


class Colours(AnyLabeler):
    """A space of colours, for labelers of any kind."""

    patch_size = PATCH
    dim = 3
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def embed_text(self, prompts):
        rows = torch.tensor([self.colour(prompt) for prompt in prompts]) - 0.4
        return rows / rows.norm(dim=1, keepdim=True)

    def colour(self, prompt):
        for name, colour in COLOURS.items():
            if name in prompt:
                return colour
        return (0.3, 0.3, 0.3)


class TinyLabeler(Colours, Labeler):
    def embed_patches(self, video):
        return patch_means(video) - 0.4


class TinyGuided(Colours, GuidedLabeler):
    """Colours on the grid of the encoder's features."""

    def embed_patches(self, video, features):
        assert video.shape[1] % features.grid.shape[1] == 0
        assert features.grid.shape[2:4] == (video.shape[3] // PATCH, video.shape[4] // PATCH)
        return patch_means(video) - 0.4


class TinySlots(Colours, SlotLabeler):
    """The sum of each slot's colours; NaN for the first clip of one of its calls."""

    def __init__(self, fails_at: int) -> None:
        super().__init__()
        self.calls, self.fails_at = 0, fails_at

    def embed_slots(self, video, slots, num_slots):
        self.calls += 1
        members = (slots[:, None] == torch.arange(num_slots)[:, None, None, None]).float()
        sums = torch.einsum("bkthw,bthwe->bke", members, patch_means(video) - 0.4)
        if self.calls == self.fails_at:
            sums[0] = torch.nan
        return sums


class TinyClips(Dataset):
    """Coloured squares on noise, in frames of two sizes."""

    def __init__(self, clips: int, poison: int, unreadable: int, has_truth: bool, backwards: bool) -> None:
        self.skipped = {"frames without pictures": 1}
        self.vocabulary = Vocabulary("tiny", tuple(map(ForegroundClass, COLOURS)), ("sky",))
        self.poison, self.unreadable, self.has_truth = poison, unreadable, has_truth
        self.order = range(clips)[::-1] if backwards else range(clips)

    def __len__(self):
        return len(self.order)

    def info(self, index):
        number = self.order[index]
        height, width = SIZES[number % 2]
        truth = tuple(self.truth(number, time) for time in range(4)) if self.has_truth else None
        video = f"video{number // 3}"
        return ClipInfo(f"{video}/{number}", video, tuple(range(4)), (height, width), truth)

    def truth(self, number, time):
        left = 2 * time + number % 8
        ids = np.array([1 + number % len(COLOURS)])
        no = np.zeros(1, bool)
        boxes = np.array([[left, 4, left + 15, 19]], np.float32)
        return FrameTruth(boxes, ids, np.array([0]), no, no, np.ones(1, np.float32))

    def clip(self, index):
        number, info = self.order[index], self.info(index)
        if number == self.unreadable:
            raise DecodeError(f"clip {info.id}: frame 0 is truncated.")
        rng = np.random.default_rng(number)
        frames = rng.uniform(0.2, 0.5, (4, *info.frame_size, 3)).astype(np.float32)
        for time, frame in enumerate(frames):
            x1, y1, x2, y2 = self.truth(number, time).boxes[0].astype(int)
            frame[y1 : y2 + 1, x1 : x2 + 1] = list(COLOURS.values())[number % len(COLOURS)]
        return Clip(info, frames * (number != self.poison))

    def fingerprint(self):
        return hashlib.sha256(f"tiny {len(self)}".encode()).hexdigest()


def build_encoder(*, dim: int = 6, weights: Annotated[str | None, Weights] = None) -> Encoder:
    return TinyEncoder(dim)


def build_deep(*, dim: int = 4) -> Encoder:
    return TinyEncoder(dim)


def build_short(*, max_frames: int = 2) -> Encoder:
    encoder = TinyEncoder(4)
    encoder.max_frames = max_frames
    return encoder


def build_grouper(*, num_slots: int = 4, feature_dim: Annotated[int, FromEncoder("dim")] = 6) -> Grouper:
    return TinyGrouper(num_slots)


def build_needy() -> Grouper:
    return NeedyGrouper(4)


def build_broken() -> Grouper:
    return BrokenGrouper(4)


def build_told() -> Grouper:
    return ToldGrouper()


class ToldEncoder(TinyEncoder):
    needs_truth = True

    def encode(self, video, truth=()):
        self.told = [info.id for info in truth]
        return super().encode(video)


class ToldLabeler(TinyLabeler):
    """Every patch is what the clip's object is."""

    needs_truth = True

    def embed_patches(self, video, truth=()):
        classes = torch.tensor([info.truth[0].class_ids[0] for info in truth])
        means = patch_means(video)
        return torch.eye(3)[classes][:, None, None, None].expand_as(means)

    def embed_text(self, prompts, truth=()):
        return torch.eye(3)[torch.as_tensor(truth)]


def build_told_encoder() -> Encoder:
    return ToldEncoder(6)


def build_told_labeler() -> Labeler:
    return ToldLabeler()


def build_guided() -> GuidedLabeler:
    return TinyGuided()


def build_slots(*, fails_at: int = -1) -> SlotLabeler:
    return TinySlots(fails_at)


def build_labeler() -> Labeler:
    return TinyLabeler()


def build_clips(
    *,
    clips: int = 10,
    poison: int = -1,
    unreadable: int = -1,
    truth: bool = True,
    backwards: Annotated[bool, Located] = False,
) -> Dataset:
    """``backwards`` is said to be no part of identity; it turns the order round."""
    return TinyClips(clips, poison, unreadable, truth, backwards)


@hookimpl
def ovvol_encoders():
    yield Entry("tiny", build_encoder, "patch colours, mixed")
    yield Entry("deep", build_deep, "the same with fewer channels")
    yield Entry("short", build_short, "takes two frames")
    yield Entry("told", build_told_encoder, "is told the truth")


@hookimpl
def ovvol_groupers():
    yield Entry("randomcut", build_grouper, "random directions in feature space")
    yield Entry("needy", build_needy, "needs keys")
    yield Entry("brokencut", build_broken, "fails")
    yield Entry("told", build_told, "is told the truth")


@hookimpl
def ovvol_labelers():
    yield Entry("colours", build_labeler, "names colours")
    yield Entry("guided", build_guided, "names colours, looks at features")
    yield Entry("slots", build_slots, "names colours of slots")
    yield Entry("told", build_told_labeler, "is told the truth")


@hookimpl
def ovvol_datasets():
    yield Entry("squares", build_clips, "coloured squares")
