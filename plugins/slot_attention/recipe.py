"""Training of slot attention: group the features of a frozen encoder, predict them from the slots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench.errors import SettingError
from ovvol_bench.nn.grids import sincos_table
from ovvol_bench.training import Batch, Draws, GroupingRecipe, Losses, TrainingTask, component_of
from ovvol_bench.training.grouping import slot_entropy, slots_used

from .model import SlotAttentionGrouper

_UNIFORM = 0.995  # of log K: entropy that counts as no grouping
_PATIENCE = 100  # steps that it may last


class SlotAttentionRecipe(GroupingRecipe):
    """Train the grouper: find slots in the features of a frozen encoder, and predict the features from them.

    Clips have as many frames as the grouper's ``frames`` ask for.

    Args:
        task: with a slot attention grouper, and the encoder of its features.
        decoded_frames: random time steps that a step decodes, which costs most; none: all, as published.
        position_init: what the decoder's positions start from: ``random`` as published, or a sine-cosine
            table (``sincos``), with which slots don't collapse at first. Loaded weights stay.

    Raises:
        SettingError: if a number is out of range, or grouper, encoder and numbers don't fit together.
        DecodeError: if frames can't be read for the cache.
    """

    grouper: SlotAttentionGrouper

    def __init__(
        self,
        task: TrainingTask,
        *,
        decoded_frames: int | None = None,
        position_init: Literal["random", "sincos"] = "random",
        **base: Any,
    ) -> None:
        self._decoded, self._rate, self._uniform_steps = decoded_frames, 0.0, 0
        super().__init__(task, **base)
        grouper = self.grouper
        if position_init == "sincos" and not grouper.has_weights:
            # Random positions of the usual size, 0.02, take thousands of steps to matter beside the slots,
            # which collapse to two or three meanwhile.
            table = sincos_table(grouper.frames, grouper.position_grid, grouper.slot_dim).flatten(1, 2)
            with torch.no_grad():
                grouper.decoder.pos_embed.copy_(table)

    def clip_frames(self) -> int:
        grouper, encoder = component_of(self.task, SlotAttentionGrouper), self.encoder.encoder
        if encoder.dim != grouper.feature_dim:
            raise SettingError(
                f"the encoder's features have {encoder.dim} channels, grouper.feature_dim="
                f"{grouper.feature_dim}. Set -o grouper.feature_dim={encoder.dim}."
            )
        frames = grouper.steps * encoder.tubelet_size
        if encoder.max_frames is not None and frames > encoder.max_frames:
            raise SettingError(
                f"grouper.frames={grouper.steps} needs clips of {frames} frames; the encoder takes at most "
                f"{encoder.max_frames}. Set -o grouper.frames={encoder.max_frames // encoder.tubelet_size} "
                "or less."
            )
        if self._decoded is not None and not 1 <= self._decoded <= grouper.steps:
            raise SettingError(
                f"recipe.decoded_frames={self._decoded}: expected 1 to {grouper.steps}, the time steps of a "
                "clip's features, or none for all."
            )
        return frames

    def draw(self, draws: Draws) -> Batch:
        """Draw ``noise`` (K, slot_dim), and ``steps`` (s,) to decode, the same in all examples of a step."""
        noise = {"noise": torch.randn(self.grouper.num_slots, self.grouper.slot_dim, generator=draws.torch)}
        if self._decoded is None:
            return noise
        chosen = draws.shared.permutation(self.grouper.steps)[: self._decoded]
        return {**noise, "steps": torch.from_numpy(np.sort(chosen))}

    def losses(self, grid: Tensor, batch: Batch) -> Losses:
        steps = batch["steps"][0] if self.training and "steps" in batch else None
        loss, numbers = reconstruction_loss(self.grouper, grid, batch["noise"], steps)
        return {"loss": loss, **numbers}

    def remark(self, numbers: Mapping[str, float]) -> str | None:
        """Warn when slots share every patch alike for a hundred steps after the warm-up."""
        warm = numbers["learning_rate"] < self._rate
        self._rate = max(self._rate, numbers["learning_rate"])
        slots = self.grouper.num_slots
        uniform = numbers["slot_entropy"] > _UNIFORM * math.log(slots)
        self._uniform_steps = self._uniform_steps + 1 if warm and uniform else 0
        if self._uniform_steps != _PATIENCE:
            return None
        return (
            f"slots share every patch alike (slot_entropy {numbers['slot_entropy']:.3f}, log {slots} is "
            f"{math.log(slots):.3f}): nothing is grouped. Are the encoder's weights those of a finished "
            "training, and its features on a scale near 1? recipe.position_init=sincos may help."
        )


def reconstruction_loss(
    grouper: SlotAttentionGrouper, grid: Tensor, noise: Tensor, steps: Tensor | None = None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the mean squared error between decoded and encoder features, over all elements.

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
