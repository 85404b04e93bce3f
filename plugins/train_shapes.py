"""Trains the small weights that ship for the `shapes` world, one part after the other.

    python -m ovvol_plugins.train_shapes videomae FOLDER
    python -m ovvol_plugins.train_shapes slot_attention FOLDER
    python -m ovvol_plugins.train_shapes clip FOLDER
    python -m ovvol_plugins.train_shapes pacl FOLDER
    python -m ovvol_plugins.train_shapes bundle FOLDER

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
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Generator, Tensor, nn

from ovvol_bench.data.shapes.render import render
from ovvol_bench.data.shapes.world import (
    BACKGROUNDS,
    FORMS,
    FRAMES,
    HEIGHT,
    TEXTURES,
    WIDTH,
    class_names,
    draw_scene,
)

if TYPE_CHECKING:
    from .pacl.model import Alignment, PaclLabeler
    from .videomae.model import VideoMAE, VideoMAESettings

VIDEOS = 1600
Numbers = dict[str, Tensor]
"""A step's ``loss``, and what else to log."""
CLIP_FRAMES = 8


@dataclass(frozen=True)
class Recipe:
    """Numbers of one training.

    Attributes:
        steps: optimizer steps.
        rate: peak learning rate; linear warm-up, then cosine to zero.
        warmup: steps.
        cycles: lengths of successive cosines, each starting anew from the peak (SGDR); empty: one over
            all steps. The last may be cut off.
        weight_decay: of AdamW.
        clip: largest gradient norm.
    """

    steps: int
    rate: float
    warmup: int = 100
    cycles: tuple[int, ...] = ()
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
    frames, masks, classes = (
        np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("frames", "masks", "classes")
    )
    return World(frames, masks, classes, json.loads((folder / "backgrounds.json").read_text()))


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


def fit(model: nn.Module, loss_of: Callable[[int], Numbers], recipe: Recipe, file: Path) -> None:
    """Minimise ``loss_of(step)["loss"]`` over the model's parameters that want gradients.

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
            numbers = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        numbers["loss"].backward()
        nn.utils.clip_grad_norm_(wanted, recipe.clip)
        optimizer.step()
        if step % 20 == 0:
            row = {"step": step, "seconds": round(time.perf_counter() - begun, 1)}
            row |= {name: number.item() for name, number in numbers.items()}
            with file.with_suffix(".jsonl").open("a") as log:
                log.write(json.dumps(row) + "\n")
        if step % 200 == 199 or step + 1 == recipe.steps:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step + 1}
            torch.save(state, file.with_suffix(".tmp"))
            file.with_suffix(".tmp").replace(file.with_suffix(".pt"))


def _factor(step: int, recipe: Recipe) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    begun = 0
    for length in recipe.cycles or (recipe.steps,):
        if step < begun + length:
            first = max(begun, recipe.warmup)
            return float(0.5 + 0.5 * np.cos(np.pi * (step - first) / (begun + length - first)))
        begun += length
    return 0.0


def _resume(model: nn.Module, optimizer: torch.optim.Optimizer, file: Path) -> int:
    saved = file.with_suffix(".pt")
    if not saved.exists():
        return 0
    state = torch.load(saved, weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"])


def _encoder_settings() -> VideoMAESettings:
    from .videomae.model import VideoMAESettings

    return VideoMAESettings(
        patch_size=8, dim=192, depth=4, heads=4, position_frames=8, position_grid=16, final_norm=True
    )


def train_videomae(folder: Path) -> None:
    """Masked pre-training of the encoder."""
    from .videomae.model import VideoMAE, VideoMAEPretraining, VideoMAESettings
    from .videomae.training import pretraining_loss, tube_mask

    torch.manual_seed(0)
    settings = VideoMAESettings(
        patch_size=8, dim=192, depth=4, heads=4, position_frames=8, position_grid=16, final_norm=True
    )
    model = VideoMAEPretraining(
        VideoMAE(settings), decoder_dim=96, decoder_depth=1, decoder_heads=3, norm_targets=False
    )
    data = world(folder)

    def loss_of(step: int) -> Numbers:
        video = normalise(clips(data, step, 16), model.encoder.mean, model.encoder.std)
        mask = tube_mask((8, 12, 16), 0.8, Generator().manual_seed(step), len(video))
        return {"loss": pretraining_loss(model, video, mask)}

    fit(model, loss_of, Recipe(steps=800, rate=1e-3, cycles=(1200,)), folder / "videomae")


def train_slot_attention(folder: Path) -> None:
    """Grouping on cached features of the frozen encoder."""
    from .slot_attention.model import SlotAttentionGrouper, SlotAttentionSettings
    from .slot_attention.training import reconstruction_loss
    from .videomae.positions import sincos_table

    torch.manual_seed(0)
    settings = SlotAttentionSettings(
        num_slots=7, slot_dim=64, feature_dim=192, decoder_dim=128, position_grid=16
    )
    model = SlotAttentionGrouper(settings)
    # Random positions of the usual size, 0.02, take thousands of steps to matter beside the slots.
    with torch.no_grad():
        model.decoder.pos_embed.copy_(sincos_table(CLIP_FRAMES, settings.position_grid, 64).flatten(1, 2))
    features = _cached_features(folder)

    def loss_of(step: int) -> Numbers:
        rng = np.random.default_rng([2, step])
        grid = torch.from_numpy(features[rng.integers(len(features), size=8)]).float()
        noise = model.noise([Generator().manual_seed(step * 64 + i) for i in range(len(grid))])
        steps = torch.from_numpy(rng.permutation(CLIP_FRAMES)[:2])
        loss, numbers = reconstruction_loss(model, grid, noise, steps)
        return {"loss": loss, "slots_used": numbers["slots_used"]}

    fit(
        model,
        loss_of,
        Recipe(steps=20500, rate=1.5e-3, warmup=200, weight_decay=0.0, cycles=(9000, 7000, 4500)),
        folder / "slot_attention",
    )


def _trained_encoder(folder: Path) -> VideoMAE:
    """The pre-trained encoder, its final norm set so that every channel has mean 0 and variance 1.

    The raw features of so small a network are one large constant vector and a hundredth of variation:
    a reconstruction loss would spend its time on the constant.
    """
    from .videomae.model import VideoMAE

    encoder = VideoMAE(_encoder_settings()).eval()
    saved = torch.load(folder / "videomae.pt", weights_only=True)["model"]
    encoder.load_state_dict({name: saved[f"encoder.{name}"] for name in encoder.state_dict()})
    data = world(folder)
    norm = cast(nn.LayerNorm, encoder.norm)
    with torch.inference_mode():
        norm.weight.fill_(1)
        norm.bias.fill_(0)
        grids = [_encode(encoder, clips(data, 2 * 10**6 + batch, 8)) for batch in range(12)]
        deviation, mean = torch.std_mean(torch.cat(grids).flatten(0, 3), dim=0)
        norm.weight.copy_(1 / deviation)
        norm.bias.copy_(-mean / deviation)
    return encoder


def _encode(encoder: VideoMAE, video: Tensor) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return encoder.encode(normalise(video, encoder.mean, encoder.std)).grid.float()


def _cached_features(folder: Path) -> np.ndarray:
    """(clips, 8, 12, 16, 192) float16: two clips of every training video."""
    data, file = world(folder), folder / "features.npy"
    if file.exists():
        return np.asarray(np.load(file, mmap_mode="r"))
    encoder = _trained_encoder(folder)
    shape = (2 * len(data.frames), CLIP_FRAMES, 12, 16, encoder.dim)
    partial = folder / "features.part.npy"
    cache = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
    for index in range(0, len(cache), 8):
        cache[index : index + 8] = _encode(encoder, clips(data, 10**6 + index, 8)).half().numpy()
    partial.rename(file)
    return np.asarray(np.load(file, mmap_mode="r"))


# --- a small CLIP of the shapes world, then PACL on it ------------------------------------------------

CROP = 64


@dataclass(frozen=True)
class Crops:
    """Pictures of one thing each, with what may truthfully be said of them.

    Attributes:
        images: (B, 3, 64, 64) in [0, 1].
        texture, form: (B,) indices into the world's words, -1 for a picture of background only.
        backgrounds: kind of every picture's background.
    """

    images: Tensor
    texture: np.ndarray
    form: np.ndarray
    backgrounds: list[str]


def crops(data: World, step: int, batch: int, empty: float) -> Crops:
    """Windows around one object, a share ``empty`` of them around none."""
    rng = np.random.default_rng([3, step])
    images: list[np.ndarray] = []
    textures, forms, backgrounds = [], [], []
    while len(images) < batch:
        video, t = int(rng.integers(len(data.frames))), int(rng.integers(FRAMES))
        track = 0 if rng.uniform() < empty else int(rng.integers(1, 5))
        window = _window_on(data.masks[video, t], track, rng)
        if window is None:
            continue
        kind = int(data.classes[video, track]) - 1
        image = data.frames[video, t][window]
        images.append(image[:, ::-1] if rng.uniform() < 0.5 else image)
        textures.append(kind // len(FORMS) if track else -1)
        forms.append(kind % len(FORMS) if track else -1)
        backgrounds.append(data.backgrounds[video])
    stacked = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
    return Crops(stacked, np.array(textures), np.array(forms), backgrounds)


def _window_on(mask: np.ndarray, track: int, rng: np.random.Generator) -> tuple[slice, slice] | None:
    """A window that shows the object (or none) and little of any other; None if the draw has none."""
    rows, columns = np.nonzero(mask == track)
    if track and len(rows) < 250:
        return None
    center = (rows.mean(), columns.mean()) if track else (rng.uniform(0, HEIGHT), rng.uniform(0, WIDTH))
    top, left = (
        int(np.clip(c - CROP / 2 + rng.uniform(-12, 12), 0, limit - CROP))
        for c, limit in zip(center, (HEIGHT, WIDTH), strict=True)
    )
    window = (slice(top, top + CROP), slice(left, left + CROP))
    seen = mask[window]
    own = (seen == track).sum() if track else 0
    others = (seen > 0).sum() - own
    limit = 0.25 * own if track else 60
    return window if others <= limit and (not track or own > 0.8 * len(rows)) else None


def captions(pictures: Crops, step: int) -> tuple[list[str], Tensor]:
    """Distinct captions of a batch, and (B, captions) bool: which of them are true of which picture.

    A caption names texture and form, only one of them, or the background.
    """
    rng = np.random.default_rng([4, step])
    phrases: dict[str, np.ndarray] = {}
    background = np.array(pictures.backgrounds)
    for texture, form, kind in zip(pictures.texture, pictures.form, background, strict=True):
        pick = rng.uniform()
        if texture < 0:
            word, true = (kind, background == kind) if pick < 0.5 else ("background", pictures.texture < 0)
            true = true & (pictures.texture < 0)
        elif pick < 0.7:
            word = f"{TEXTURES[texture]} {FORMS[form]}"
            true = (pictures.texture == texture) & (pictures.form == form)
        elif pick < 0.85:
            word, true = FORMS[form], pictures.form == form
        else:
            word, true = f"{TEXTURES[texture]} thing", pictures.texture == texture
        phrases[f"a photo of a {word}"] = true
    return list(phrases), torch.from_numpy(np.stack(list(phrases.values()), axis=1))


def matching_loss(images: Tensor, texts: Tensor, true: Tensor) -> Tensor:
    """Contrastive loss where several captions may be true of a picture, and the other way round.

    Yang et al., "Unified Contrastive Learning in Image-Text-Label Space", CVPR 2022, equation 2: the
    targets are the true pairs, shared evenly.
    """
    logits = 20 * nn.functional.normalize(images, dim=-1) @ nn.functional.normalize(texts, dim=-1).T
    share = true.float()
    by_image = -(share / share.sum(1, keepdim=True) * logits.log_softmax(1)).sum(1).mean()
    by_text = -(share / share.sum(0) * logits.log_softmax(0)).sum(0).mean()
    return (by_image + by_text) / 2


def known_phrases() -> list[str]:
    """Every caption that training can show."""
    words = [
        *class_names("train"),
        *FORMS,
        *(f"{texture} thing" for texture in TEXTURES),
        *BACKGROUNDS["train"],
        "background",
    ]
    return [f"a photo of a {word}" for word in words]


def _labeler() -> PaclLabeler:
    from .pacl.clip import ClipNumbers, build_towers
    from .pacl.model import PaclLabeler

    torch.manual_seed(0)
    numbers = ClipNumbers(
        embed_dim=64, patch_size=8, image_size=CROP, width=128, layers=4, heads=2,
        text_width=128, text_layers=2, text_heads=2,
    )  # fmt: skip
    return PaclLabeler(build_towers(numbers.config()))


def train_clip(folder: Path) -> None:
    """Image and text tower on rendered pictures and their captions."""
    from .pacl.text import tokenize

    labeler = _labeler()
    towers = nn.ModuleDict({"image": labeler.model, "text": labeler.text}).requires_grad_(True)
    data = world(folder)

    def loss_of(step: int) -> Numbers:
        pictures = crops(data, step, 64, empty=0.125)
        phrases, true = captions(pictures, step)
        images = labeler.tower_output(labeler.trunk(normalise(pictures.images, labeler.mean, labeler.std)))[
            :, 0
        ]
        return {"loss": matching_loss(images.float(), labeler.text(tokenize(phrases)).float(), true)}

    fit(towers, loss_of, Recipe(steps=2500, rate=1e-3, warmup=200), folder / "clip")


def train_pacl(folder: Path) -> None:
    """PACL's head on the frozen CLIP: pictures only, no captions."""
    from .pacl.training import contrast

    labeler = _labeler()
    towers = nn.ModuleDict({"image": labeler.model, "text": labeler.text})
    towers.load_state_dict(torch.load(folder / "clip.pt", weights_only=True)["model"])
    data = world(folder)

    def loss_of(step: int) -> Numbers:
        # Patches of the background learn their names from pictures that show nothing else.
        images = crops(data, 10**6 + step, 128, empty=0.4).images
        return {"loss": contrast(align_in_mosaics(labeler, normalise(images, labeler.mean, labeler.std)))}

    fit(
        labeler, loss_of, Recipe(steps=1050, rate=2e-3, weight_decay=1e-4, cycles=(450, 600)), folder / "pacl"
    )


def align_in_mosaics(labeler: PaclLabeler, images: Tensor) -> Alignment:
    """PACL's alignment with patches taken from mosaics of four pictures.

    The whole that patches are compared with is each picture's own. In a picture alone, a small
    transformer spreads the object's name over all patches; among others it has to keep it local.

    Args:
        labeler: in training.
        images: (4 n, 3, H, W), normalised.
    """
    from .pacl.model import Alignment

    with torch.no_grad():
        whole = labeler.tower_output(labeler.trunk(images))[:, 0].float()
    quarters = images.unflatten(0, (-1, 2, 2)).permute(0, 3, 1, 4, 2, 5)
    mosaics = quarters.flatten(2, 3).flatten(3, 4)
    grid = labeler.embed_patches(mosaics[:, None])[:, 0]
    tiles = grid.unflatten(1, (2, -1)).unflatten(3, (2, -1)).permute(0, 1, 3, 2, 4, 5).flatten(0, 2)
    return Alignment.of(whole, tiles)


def bundle(folder: Path) -> None:
    """Puts the finished weights where the plugins look for them, with their curves."""
    from ovvol_bench.weights import save_state

    from .pacl.checkpoint import save_labeler
    from .pacl.text import tokenize

    plugins = Path(__file__).parent
    about = {"world": "shapes", "trained_by": "python -m ovvol_plugins.train_shapes"}
    save_state(_trained_encoder(folder), plugins / "videomae/weights/shapes.safetensors", about, half=True)
    slots = torch.load(folder / "slot_attention.pt", weights_only=True)["model"]
    save_state(slots, plugins / "slot_attention/weights/shapes.safetensors", about, half=True)
    labeler = _labeler()
    labeler.load_state_dict(torch.load(folder / "pacl.pt", weights_only=True)["model"])
    unknown = torch.ones(labeler.text.vocab_size, dtype=torch.bool)
    unknown[tokenize(known_phrases()).flatten()] = False
    with torch.no_grad():
        labeler.text.token_embedding.weight[unknown] = 0
    save_labeler(labeler, plugins / "pacl/weights/shapes.safetensors", about)
    for plugin, part in (("videomae", "videomae"), ("slot_attention", "slot_attention"), ("pacl", "clip")):
        _draw_curve(folder / f"{part}.jsonl", plugins / plugin / "weights" / f"{part}.png")
    _draw_curve(folder / "pacl.jsonl", plugins / "pacl/weights/pacl.png")


def _draw_curve(log: Path, picture: Path) -> None:
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss", title=log.stem)
    axes.plot([row["step"] for row in rows], [row["loss"] for row in rows])
    figure.savefig(picture, dpi=100)


PARTS = {
    "videomae": train_videomae,
    "slot_attention": train_slot_attention,
    "clip": train_clip,
    "pacl": train_pacl,
    "bundle": bundle,
}


def main(arguments: list[str]) -> None:
    """Train one part: its name, and the folder."""
    if len(arguments) != 2 or arguments[0] not in PARTS:
        raise SystemExit(f"expected PART FOLDER, with PART one of {', '.join(PARTS)}; got {arguments}")
    PARTS[arguments[0]](Path(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
