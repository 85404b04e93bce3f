"""Localize one clip: soft masks and patch embeddings in, named boxes out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench.arrays import Bools, Doubles, Floats
from ovvol_bench.errors import ContractError
from ovvol_bench.naming.prompts import TextBank
from ovvol_bench.naming.rule import NO_EVIDENCE, Evidence, group_slots, name_probabilities, segments_by_slot
from ovvol_bench.naming.settings import NamingSettings
from ovvol_bench.types import Localization


def name_pooled(
    slots: Tensor,
    pooled: Tensor,
    text: TextBank,
    settings: NamingSettings,
    frame_size: tuple[int, int],
    evidence: Evidence = NO_EVIDENCE,
) -> Localization:
    """Localize and name the objects of a clip whose slots have embeddings.

    Args:
        slots: (T, h, w) int64 slot of every patch, in [0, K).
        pooled: (K, E) embedding of every slot, of any length.
        text: prompts of the vocabulary.
        settings: conventions.
        frame_size: (height, width) of the original frames in pixels.
        evidence: what slots may be united by, beside their embeddings.

    Raises:
        ContractError: if embeddings are not finite.
        SettingError: if the merger in use needs evidence that there is none of.
    """
    sums: Floats = pooled.float().cpu().numpy()
    if not np.isfinite(sums).all():
        raise ContractError("The labeler's patch embeddings hold NaN or infinite values.")
    slot_map = slots.cpu().numpy().astype(np.int16)
    groups = group_slots(slot_map, sums, text, settings, evidence)
    segment_of_slot = segments_by_slot(groups, len(sums))
    boxes, present = segment_boxes(segment_of_slot[slot_map], len(groups), frame_size)
    united = pool_segments(sums, segment_of_slot, len(groups))
    probabilities = name_probabilities(united, text, settings.temperature).astype(np.float32)
    return Localization(boxes, present, probabilities, slot_map, segment_of_slot)


def gather_evidence(
    settings: NamingSettings, slots: Tensor, masks: Tensor | None = None, features: Tensor | None = None
) -> Evidence:
    """Gather what the merger in use looks at, as far as it is there.

    Args:
        settings: says which merger.
        slots: (T, h, w) int64 slot of every patch.
        masks: (K, S, h, w) soft assignment; None for a consensus of several.
        features: (S, h, w, D) of the encoder.
    """
    if settings.merge == "overlap" and masks is not None:
        # Active: more than an even share of a patch, so that several slots can be; hard masks never overlap.
        active = (masks.float() > 1 / len(masks)).flatten(1).float()
        both = active @ active.T
        sizes = active.sum(dim=1)
        return Evidence(overlap=(both / (sizes[:, None] + sizes - both).clamp(min=1)).cpu().numpy())
    if settings.merge == "features" and settings.merge_features == "encoder" and features is not None:
        every_frame = features.repeat_interleave(len(slots) // len(features), dim=0)
        return Evidence(features=pool_slots(slots, int(slots.max()) + 1, every_frame).cpu().numpy())
    return NO_EVIDENCE


def pool_slots(slots: Tensor, num_slots: int, patches: Tensor) -> Tensor:
    """Sum patch embeddings over the patches that each slot wins; see `pool`.

    Args:
        slots: (..., T, h, w) int64 slot of every patch, in [0, K).
        num_slots: K.
        patches: (..., T, h', w', E).

    Returns:
        (..., K, E) float32.
    """
    numbers = torch.arange(num_slots, device=slots.device)[:, None, None, None]
    return pool(slots.unsqueeze(-4) == numbers, patches)


def winning_slots(masks: Tensor, frames: int) -> Tensor:
    """Return the slot with the largest weight at every patch, the first of equals.

    Args:
        masks: (..., K, S, h, w) soft assignment.
        frames: T, a multiple of S; every feature step stands for T / S frames.

    Returns:
        (..., T, h, w) int64 in [0, K).

    Raises:
        ContractError: if the masks are not finite or T is no multiple of S.
    """
    steps = masks.shape[-3]
    if frames % steps:
        raise ContractError(f"The grouper returned masks of {steps} steps for a clip of {frames} frames.")
    weights, slots = masks.max(dim=-4)
    if not torch.isfinite(weights).all():
        raise ContractError("The grouper's masks hold NaN or infinite values.")
    return slots.repeat_interleave(frames // steps, dim=-3)


def shares(masks: Tensor, frames: int) -> npt.NDArray[np.uint8]:
    """Quantize a soft assignment as predictions keep it: the least share of a clip is 0, the largest 255.

    The scale changes no argmax of enlarged shares, and keeps the order of shares that are all nearly 1 / K.

    Args:
        masks: (K, S, h, w), finite.
        frames: T, a multiple of S.

    Returns:
        (T, K, h, w).
    """
    low, high = (bound.item() for bound in masks.float().aminmax())
    rounded = ((masks.float() - low) * (255 / max(high - low, 1e-12))).round().clamp(0, 255).to(torch.uint8)
    return rounded.repeat_interleave(frames // masks.shape[1], dim=1).transpose(0, 1).cpu().numpy()


def pool(weights: Tensor, patches: Tensor) -> Tensor:
    """Return weighted sums of patch embeddings: one matrix product, in float32 even under autocast.

    Args:
        weights: (..., K, T, h, w) of every patch in every slot.
        patches: (..., T, h', w', E); resized to (h, w) bilinearly if the grids differ.

    Returns:
        (..., K, E) float32, on the device of the patches.

    Raises:
        ContractError: if the numbers of frames differ.
    """
    frames, *grid = weights.shape[-3:]
    if patches.shape[-4] != frames:
        raise ContractError(
            f"The labeler returned patches of {patches.shape[-4]} frames, the grouper slots of {frames}."
        )
    with torch.autocast(patches.device.type, enabled=False):
        values = patches.float()
        if list(patches.shape[-3:-1]) != grid:
            channels_first = values.flatten(0, -4).permute(0, 3, 1, 2)
            resized = F.interpolate(channels_first, size=grid, mode="bilinear", align_corners=False)
            values = resized.permute(0, 2, 3, 1).reshape(*patches.shape[:-3], *grid, -1)
        return weights.flatten(-3).float() @ values.flatten(-4, -2)


def pool_segments(pooled: Floats, segment_of_slot: npt.NDArray[np.int16], num_segments: int) -> Doubles:
    """Sum slots into segments.

    Args:
        pooled: (K, E) sums of patch embeddings of every slot.
        segment_of_slot: (K,) segment in [0, N), or -1 for none.
        num_segments: N.

    Returns:
        (N, E) float64.
    """
    sums = np.zeros((num_segments, pooled.shape[1]))
    kept = segment_of_slot >= 0
    np.add.at(sums, segment_of_slot[kept], pooled[kept])
    return sums


def segment_boxes(
    segment_map: npt.NDArray[np.int16], num_segments: int, frame_size: tuple[int, int]
) -> tuple[Floats, Bools]:
    """Return tight boxes around the patches of every segment in every frame.

    Args:
        segment_map: (T, h, w) segment of every patch, in [0, N), or -1.
        num_segments: N.
        frame_size: (height, width) of the original frames in pixels; the grid covers all of it.

    Returns:
        Boxes (T, N, 4) float32 x1, y1, x2, y2 in pixels of the original frame, ends inclusive,
        zeros where a segment is absent; and (T, N) bool, whether it is present.
    """
    masks = segment_map[:, None] == np.arange(num_segments)[:, None, None]
    present: Bools = masks.any(axis=(2, 3))
    top, bottom = _extent(masks.any(axis=3), frame_size[0])
    left, right = _extent(masks.any(axis=2), frame_size[1])
    boxes = np.stack([left, top, right, bottom], axis=-1) * present[..., None]
    return boxes.astype(np.float32), present


def _extent(occupied: Bools, pixels: int) -> tuple[Doubles, Doubles]:
    """Return the first and last pixel, inclusive, of the occupied cells along the last axis."""
    cells = occupied.shape[-1]
    first = occupied.argmax(axis=-1)
    end = cells - occupied[..., ::-1].argmax(axis=-1)
    return first * pixels / cells, end * pixels / cells - 1
