"""Encode, group and label a batch of clips; every answer is held against the component's contract.

Naming comes after, clip by clip, in ``ovvol_bench.naming``: it is the harness's own and the same for
every combination.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional as F

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
from ovvol_bench.errors import ContractError, calling
from ovvol_bench.naming.prompts import Prompts
from ovvol_bench.registry.annotations import MOST_SLOTS
from ovvol_bench.types import Clip, ClipInfo, Features, SlotMasks


class NotFiniteError(ContractError):
    """A component answered NaN or infinity for some clips of a batch.

    Attributes:
        positions: of those clips in the batch; the others are sound.
    """

    def __init__(self, what: str, positions: tuple[int, ...]) -> None:
        super().__init__(
            f"{what} hold NaN or infinity in {len(positions)} clip(s) of the batch; expected finite numbers."
            " Check the weights, or run with --precision float32."
        )
        self.positions = positions


def stack(clips: Sequence[Clip], device: torch.device) -> Tensor:
    """Pixels of clips of one size.

    Returns:
        (B, T, 3, H, W) float32 RGB in [0, 1] on ``device``.
    """
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
    return frames.to(device, non_blocking=True).permute(0, 1, 4, 2, 3)


def fit(video: Tensor, component: VisionComponent) -> Tensor:
    """Normalise for a component, resized to whole patches where its patch size doesn't divide the frame.

    Args:
        video: (B, T, 3, H, W) in [0, 1].
        component: whose ``mean``, ``std`` and ``patch_size`` count.

    Returns:
        (B, T, 3, H', W'): H' and W' are the multiples of the patch size nearest to H and W, at least one
        patch (bilinear, no antialiasing, as everywhere in the reference).
    """
    patch = component.patch_size
    size = tuple(max(1, round(side / patch)) * patch for side in video.shape[-2:])
    if size != tuple(video.shape[-2:]):
        flat = F.interpolate(video.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
        video = flat.unflatten(0, video.shape[:2])
    mean, std = (torch.tensor(v, device=video.device).view(3, 1, 1) for v in (component.mean, component.std))
    return (video - mean) / std


def encode(
    encoder: Encoder, video: Tensor, name: str = "encoder", truth: Sequence[ClipInfo] = ()
) -> Features:
    """Features of a batch.

    Args:
        encoder: the component.
        video: (B, T, 3, H, W) in [0, 1].
        name: how errors call the component.
        truth: of the B clips; only an encoder that ``needs_truth`` gets it.

    Raises:
        ContractError: if the frames don't suit the encoder, or its answer doesn't have the shape promised.
    """
    batch, frames = video.shape[:2]
    check_frames(encoder, frames, name)
    pixels = fit(video, encoder)
    rows, columns = (side // encoder.patch_size for side in pixels.shape[-2:])
    with calling(name):
        features = encoder.encode(pixels, **_told(encoder, truth, batch, name))
    _check_type(features, Features, f"{name}: encode()")
    expected = (batch, frames // encoder.tubelet_size, rows, columns, encoder.dim)
    _check(features.grid, expected, f"{name}: features", "(B, S, h, w, D): patch tokens only, no class token")
    missing = sorted(encoder.maps - features.maps.keys())
    if missing:
        raise ContractError(f"{name} declares the maps {missing} and did not return them from encode().")
    return features


def group(
    grouper: Grouper,
    features: Features,
    draws: Sequence[Generator],
    name: str = "grouper",
    truth: Sequence[ClipInfo] = (),
) -> SlotMasks:
    """Slot masks of a batch.

    Args:
        grouper: the component.
        features: of B clips.
        draws: one generator a clip.
        name: how errors call the component.
        truth: of the B clips; only a grouper that ``needs_truth`` gets it.

    Raises:
        ContractError: if the masks lack the promised shape, are negative, or don't sum to 1 over the slots.
    """
    batch, *grid = features.grid.shape[:-1]
    with calling(name):
        slots = grouper.group(features, draws, **_told(grouper, truth, batch, name))
    _check_type(slots, SlotMasks, f"{name}: group()")
    masks = slots.masks
    _check_type(masks, Tensor, f"{name}: slot masks")
    slot_count = masks.shape[1] if masks.ndim == 5 and masks.shape[1] else "K >= 1"
    if masks.ndim == 5 and masks.shape[1] > MOST_SLOTS:
        raise ContractError(f"{name}: {masks.shape[1]} slots a clip; expected at most {MOST_SLOTS}.")
    _check(masks, (batch, slot_count, *grid), f"{name}: slot masks", "(B, K, S, h, w)")
    error = (masks.float().sum(1) - 1).abs().amax().item()
    if masks.amin().item() < 0 or error > 0.02:
        raise ContractError(
            f"{name}: slot masks must be non-negative and sum to 1 over the slots; they are off by"
            f" {error:.3g}. Apply a softmax over dimension 1."
        )
    return slots


def embed(labeler: Labeler, video: Tensor, name: str = "labeler", truth: Sequence[ClipInfo] = ()) -> Tensor:
    """Patch embeddings of a batch.

    Args:
        labeler: the component.
        video: (B, T, 3, H, W) in [0, 1].
        name: how errors call the component.
        truth: of the B clips; only a labeler that ``needs_truth`` gets it.

    Returns:
        (B, T, h, w, E).

    Raises:
        ContractError: if the answer doesn't have that shape.
    """
    pixels = fit(video, labeler)
    rows, columns = (side // labeler.patch_size for side in pixels.shape[-2:])
    with calling(name):
        patches = labeler.embed_patches(pixels, **_told(labeler, truth, len(video), name))
    expected = (*video.shape[:2], rows, columns, labeler.dim)
    _check(patches, expected, f"{name}: patch embeddings", "(B, T, h, w, E): no class token")
    return patches


def embed_guided(
    labeler: GuidedLabeler,
    video: Tensor,
    features: Features,
    name: str = "labeler",
    truth: Sequence[ClipInfo] = (),
) -> Tensor:
    """Patch embeddings of a batch by a labeler that an encoder guides.

    Args:
        labeler: the component.
        video: (B, T, 3, H, W) in [0, 1].
        features: of the same clips.
        name: how errors call the component.
        truth: of the B clips; only a labeler that ``needs_truth`` gets it.

    Returns:
        (B, T, h, w, E) on the features' grid.

    Raises:
        ContractError: if the answer doesn't have that shape.
    """
    told = _told(labeler, truth, len(video), name)
    with calling(name):
        patches = labeler.embed_patches(fit(video, labeler), features, **told)
    expected = (*video.shape[:2], *features.grid.shape[2:4], labeler.dim)
    _check(patches, expected, f"{name}: patch embeddings", "(B, T, h, w, E) on the grid of the features")
    return patches


def embed_slots(
    labeler: SlotLabeler,
    video: Tensor,
    grouping: tuple[Tensor, int],
    name: str = "labeler",
    truth: Sequence[ClipInfo] = (),
) -> Tensor:
    """Slot embeddings of a batch.

    Args:
        labeler: the component.
        video: (B, T, 3, H, W) in [0, 1].
        grouping: (B, T, h, w) int64 slot of every patch, and the number K of slots.
        name: how errors call the component.
        truth: of the B clips; only a labeler that ``needs_truth`` gets it.

    Returns:
        (B, K, E).

    Raises:
        ContractError: if the answer doesn't have that shape.
    """
    slots, count = grouping
    told = _told(labeler, truth, len(video), name)
    with calling(name):
        embedded = labeler.embed_slots(fit(video, labeler), slots, count, **told)
    _check(embedded, (len(video), count, labeler.dim), f"{name}: slot embeddings", "(B, K, E)")
    return embedded


def embed_prompts(labeler: AnyLabeler, prompts: Prompts, name: str = "labeler") -> Tensor:
    """(P, E) embeddings of the prompts; a labeler that needs it is told the class of each.

    One that ``needs_truth`` gets ``truth`` (P,) int64: 1 to C for a foreground class, 0 for everything else;
    one that ``needs_classes`` gets ``classes``, P names, None for background words.
    """
    told: dict[str, Any] = {}
    is_class = prompts.is_name & (prompts.class_ids > 0)  # whatever the filter takes for an object
    if labeler.needs_truth:
        told["truth"] = np.where(is_class, prompts.class_ids, 0)
    if labeler.needs_classes:
        classes = zip(prompts.class_ids, is_class, strict=True)
        told["classes"] = [prompts.class_names[class_id] if named else None for class_id, named in classes]
    with calling(name):
        text = labeler.embed_text(prompts.texts, **told)
    _check_shape(text, (len(prompts), labeler.dim), f"{name}: text embeddings", "(P, E)")
    if not torch.isfinite(text).all():
        raise ContractError(f"{name}: text embeddings hold NaN or infinity. Check the weights.")
    return text


def check_frames(encoder: Encoder, frames: int, name: str = "encoder") -> None:
    """Refuse clips of a length that the encoder can't take.

    Args:
        encoder: the component.
        frames: T.
        name: how errors call the component.

    Raises:
        ContractError: if T is above ``max_frames`` or no multiple of ``tubelet_size``.
    """
    if encoder.max_frames is not None and frames > encoder.max_frames:
        raise ContractError(
            f"{name} takes at most {encoder.max_frames} frames a clip, got {frames}."
            f" Set -o dataset.frames_per_clip={encoder.max_frames} or less."
        )
    if frames % encoder.tubelet_size:
        raise ContractError(
            f"{name} joins {encoder.tubelet_size} frames into a feature step, which doesn't divide the"
            f" {frames} frames of a clip. Set -o dataset.frames_per_clip to a multiple."
        )


def _told(component: Component, truth: Sequence[ClipInfo], batch: int, name: str) -> dict[str, Any]:
    """Return the further keyword that an oracle is called with."""
    if not component.needs_truth:
        return {}
    if len(truth) != batch:
        raise ContractError(
            f"{name} is an oracle: it answers with the truth of every clip, and here there is none to tell."
            " Choose another component."
        )
    return {"truth": truth}


def _check_type(value: object, expected: type, what: str) -> None:
    if not isinstance(value, expected):
        raise ContractError(f"{what} gave {type(value).__name__}; expected {expected.__name__}.")


def _check_shape(tensor: object, expected: tuple[int | str, ...], what: str, axes: str) -> None:
    """A plain tensor of real numbers, of a shape; a text in it stands for what no tensor has."""
    _check_type(tensor, Tensor, what)
    assert isinstance(tensor, Tensor)
    if tensor.layout is not torch.strided or tensor.is_meta or tensor.is_complex() or tensor.is_quantized:
        kind = "meta" if tensor.is_meta else f"{tensor.layout}, {tensor.dtype}".replace("torch.", "")
        raise ContractError(f"{what} are a tensor of the kind {kind}; expected dense real numbers, {axes}.")
    if tuple(tensor.shape) != expected:
        text = f"({', '.join(map(str, expected))})"
        raise ContractError(f"{what} have shape {tuple(tensor.shape)}; expected {text}, {axes}.")


def _check(tensor: Tensor, expected: tuple[int | str, ...], what: str, axes: str) -> None:
    """Kind and shape, then finite numbers."""
    _check_shape(tensor, expected, what, axes)
    sound = torch.isfinite(tensor).flatten(1).all(1).tolist()
    if not all(sound):
        raise NotFiniteError(what, tuple(i for i, ok in enumerate(sound) if not ok))


def clip_generator(seed: int, clip_id: str, component: str) -> torch.Generator:
    """Random generator of one component on one clip.

    Batch size, order of clips, number of processes and resuming leave its draws as they are.

    Args:
        seed: of the run.
        clip_id: ``ClipInfo.id``.
        component: name that the component is registered under.

    Returns:
        A CPU generator at the start of its stream.
    """
    return torch.Generator().manual_seed(seed_from(f"{seed}\0{clip_id}\0{component}"))


def seed_from(key: str) -> int:
    """Return a seed in [0, 2^63) from a text, the same in every process and version of Python."""
    return int.from_bytes(hashlib.sha256(key.encode(errors="surrogatepass")).digest()[:8], "big") >> 1
