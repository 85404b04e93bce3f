"""Trains the small weights that ship for the `shapes` world, one part after the other.

    python -m ovvol_plugins.train_shapes videomae FOLDER
    python -m ovvol_plugins.train_shapes slot_attention FOLDER
    python -m ovvol_plugins.train_shapes clip FOLDER
    python -m ovvol_plugins.train_shapes pacl FOLDER

FOLDER collects the rendered training videos, cached features, weights and loss curves. Only the
train split is ever read. Every draw comes from the step's number, so a run can be cut off and goes on
from its last checkpoint.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor, nn

from ovvol_bench.data.shapes.render import render
from ovvol_bench.data.shapes.world import FRAMES, HEIGHT, WIDTH, draw_scene

VIDEOS = 1600
CLIP_FRAMES = 8


@dataclass(frozen=True)
class Recipe:
    """Numbers of one training.

    Attributes:
        steps: optimizer steps.
        rate: peak learning rate; linear warm-up, then cosine to zero.
        warmup: steps.
        weight_decay: of AdamW.
        clip: largest gradient norm.
    """

    steps: int
    rate: float
    warmup: int = 100
    weight_decay: float = 0.05
    clip: float = 1.0


@dataclass(frozen=True)
class World:
    """The rendered train split, mapped from disk.

    Attributes:
        frames: (videos, 24, H, W, 3) uint8.
        masks: (videos, 24, H, W) uint8, 1 + track id; read for captions only.
        classes: (videos, 5) int64, class id by 1 + track id.
        backgrounds: kind of every video's background.
    """

    frames: np.ndarray
    masks: np.ndarray
    classes: np.ndarray
    backgrounds: list[str]


def world(folder: Path) -> World:
    """The train split from ``folder``, rendered first if it isn't there."""
    if not (folder / "backgrounds.json").exists():
        _render_world(folder)
    arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("frames", "masks", "classes")]
    return World(*arrays, backgrounds=json.loads((folder / "backgrounds.json").read_text()))


def _render_world(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    shape = (VIDEOS, FRAMES, HEIGHT, WIDTH)
    frames = np.lib.format.open_memmap(folder / "frames.npy", "w+", np.uint8, (*shape, 3))
    masks = np.lib.format.open_memmap(folder / "masks.npy", "w+", np.uint8, shape)
    classes, backgrounds = np.zeros((VIDEOS, 5), np.int64), []
    for index in range(VIDEOS):
        scene = draw_scene("train", index)
        video = render(scene)
        frames[index], masks[index] = video.frames, video.masks
        classes[index, 1 : 1 + len(scene.objects)] = [thing.class_id for thing in scene.objects]
        backgrounds.append(scene.background.kind)
    np.save(folder / "classes.npy", classes)
    (folder / "backgrounds.json").write_text(json.dumps(backgrounds))


def clips(data: World, step: int, batch: int) -> Tensor:
    """(B, 8, 3, H, W) in [0, 1]: random clips at frame steps 1 or 2, some mirrored."""
    rng = np.random.default_rng([1, step])
    chosen = []
    for video in rng.integers(len(data.frames), size=batch):
        stride = int(rng.integers(1, 3))
        start = int(rng.integers(FRAMES - (CLIP_FRAMES - 1) * stride))
        clip = data.frames[video, start : start + CLIP_FRAMES * stride : stride]
        chosen.append(clip[:, :, ::-1] if rng.uniform() < 0.5 else clip)
    return torch.from_numpy(np.stack(chosen)).permute(0, 1, 4, 2, 3).float() / 255


def normalise(video: Tensor, mean: Iterable[float], std: Iterable[float]) -> Tensor:
    """Pixels in [0, 1] to a component's statistics."""
    return (video - torch.tensor(list(mean)).view(3, 1, 1)) / torch.tensor(list(std)).view(3, 1, 1)


def fit(model: nn.Module, loss_of: Callable[[int], Tensor], recipe: Recipe, file: Path) -> None:
    """Minimise ``loss_of(step)`` over the model's parameters that want gradients.

    Checkpoints beside ``file`` (``.pt``), resumes from there, appends the curve to ``.jsonl``.
    """
    wanted = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        wanted, recipe.rate, (0.9, 0.95), weight_decay=recipe.weight_decay, fused=True
    )
    start = _resume(model, optimizer, file)
    begun = time.perf_counter()
    for step in range(start, recipe.steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.rate * _factor(step, recipe)
        with torch.autocast("cpu", torch.bfloat16):
            loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(wanted, recipe.clip)
        optimizer.step()
        if step % 20 == 0:
            row = {"step": step, "loss": loss.item(), "seconds": round(time.perf_counter() - begun, 1)}
            with file.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if step % 200 == 199 or step + 1 == recipe.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, file.with_suffix(".tmp"))
            file.with_suffix(".tmp").replace(file.with_suffix(".pt"))


def _factor(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / (recipe.steps - recipe.warmup)
    return float(0.5 + 0.5 * np.cos(np.pi * done))


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, file: Path) -> int:
    saved = file.with_suffix(".pt")
    if not saved.exists():
        return 0
    state = torch.load(saved, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def train_videomae(folder: Path) -> None:
    """Masked pre-training of the encoder."""
    from ovvol_plugins.videomae.model import VideoMAE, VideoMAEPretraining, VideoMAESettings
    from ovvol_plugins.videomae.training import pretraining_loss, tube_mask

    torch.manual_seed(0)
    settings = VideoMAESettings(
        patch_size=8, dim=192, depth=4, heads=4, position_frames=8, position_grid=16, final_norm=True
    )
    model = VideoMAEPretraining(VideoMAE(settings), decoder_dim=96, decoder_depth=1, decoder_heads=3, norm_targets=False)
    data = world(folder)

    def loss_of(step: int) -> Tensor:
        video = normalise(clips(data, step, 16), model.encoder.mean, model.encoder.std)
        mask = tube_mask((8, 12, 16), 0.8, Generator().manual_seed(step), len(video))
        return pretraining_loss(model, video, mask)

    fit(model, loss_of, Recipe(steps=1200, rate=1e-3), folder / "videomae")


def train_slot_attention(folder: Path) -> None:
    """Grouping on cached features of the frozen encoder."""
    from ovvol_plugins.slot_attention.model import SlotAttentionGrouper, SlotAttentionSettings
    from ovvol_plugins.slot_attention.training import reconstruction_loss

    torch.manual_seed(0)
    settings = SlotAttentionSettings(num_slots=7, slot_dim=64, feature_dim=192, decoder_dim=256, position_grid=16)
    model = SlotAttentionGrouper(settings)
    features = _cached_features(folder)

    def loss_of(step: int) -> Tensor:
        rng = np.random.default_rng([2, step])
        grid = torch.from_numpy(features[rng.integers(len(features), size=12)]).float()
        noise = model.noise([Generator().manual_seed(step * 64 + i) for i in range(len(grid))])
        loss, logs = reconstruction_loss(model, grid, noise)
        if step % 100 == 0:
            print(step, loss.item(), logs["slots_used"].item(), flush=True)
        return loss

    fit(model, loss_of, Recipe(steps=6000, rate=4e-4, warmup=500, weight_decay=0.0), folder / "slot_attention")


def _cached_features(folder: Path) -> np.ndarray:
    """(clips, 8, 12, 16, 192) float16: two clips of every training video."""
    from ovvol_plugins.videomae.model import VideoMAE

    data, file = world(folder), folder / "features.npy"
    if file.exists():
        return np.load(file, mmap_mode="r")
    encoder = _trained_encoder(folder)
    shape = (2 * len(data.frames), CLIP_FRAMES, 12, 16, encoder.dim)
    partial = folder / "features.part.npy"
    cache = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for index in range(0, len(cache), 8):
        video = normalise(clips(data, 10**6 + index, 8), VideoMAE.mean, VideoMAE.std)
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            cache[index : index + 8] = encoder.encode(video).grid.half().numpy()
    partial.rename(file)
    return np.load(file, mmap_mode="r")


if __name__ == "__main__":
    globals()[f"train_{sys.argv[1]}"](Path(sys.argv[2]))
