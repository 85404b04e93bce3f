"""The objective and the learning-rate schedule of slot attention training."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench.slots.model import SlotAttentionGrouper


def reconstruction_loss(
    grouper: SlotAttentionGrouper, grid: Tensor, noise: Tensor, steps: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared error between decoded and encoder features, over all elements.

    The target of Seitzer et al., ICLR 2023, on the features of a whole clip.

    Args:
        grouper: in training.
        grid: (B, S, h, w, D) features of the frozen encoder.
        noise: (B, K, slot_dim) standard normal draws; see `SlotAttentionGrouper.noise`.
        steps: (s,) indices of the time steps to decode and compare; all if None. Slots are always found
            from the whole clip, but decoding costs most: a random part gives the same gradient on
            average for a fraction of the time.

    Returns:
        Scalar float32 loss, and numbers to log by name, means over clips that tell of slots collapsing:
        `slots_used` and `slot_entropy`.
    """
    decoded = grouper.reconstruct(grid, noise, steps)
    target = grid if steps is None else grid[:, steps]
    loss = F.mse_loss(decoded.features.float(), target.float())
    masks = decoded.masks.detach()
    return loss, {"slots_used": slots_used(masks).float().mean(), "slot_entropy": slot_entropy(masks).mean()}


def slots_used(masks: Tensor) -> Tensor:
    """How many slots win at least one patch.

    Args:
        masks: (B, K, S, h, w).

    Returns:
        (B,) int64 in [1, K].
    """
    winners = F.one_hot(masks.argmax(dim=1).flatten(1), masks.shape[1])
    return winners.any(dim=1).sum(dim=1)


def slot_entropy(masks: Tensor) -> Tensor:
    """How undecided the patches are between slots: mean over patches of the masks' entropy.

    Args:
        masks: (B, K, S, h, w), sums to 1 over K.

    Returns:
        (B,) float32 in nats: 0 where every patch belongs to one slot, log K where all slots share every
        patch alike.
    """
    entropy: Tensor = torch.special.entr(masks.float()).sum(dim=1)
    return entropy.flatten(1).mean(dim=1)


def learning_rate_factor(
    step: int, warmup_steps: int = 5000, decay_rate: float = 0.5, decay_steps: int = 50000
) -> float:
    """What to multiply the base learning rate with.

    Linear warm-up times exponential decay, which already runs during the warm-up; the very first step
    has factor 0, as in the reference.

    Args:
        step: optimizer steps done, from 0.
        warmup_steps: steps until the warm-up ends.
        decay_rate: factor gained every ``decay_steps`` steps.
        decay_steps: see above.

    Returns:
        Factor in [0, 1].
    """
    warmup = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return warmup * math.pow(decay_rate, step / decay_steps)
