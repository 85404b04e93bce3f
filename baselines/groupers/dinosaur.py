"""Slot attention frame by frame, the slots linked over the frames.

Seitzer et al., "Bridging the gap to real-world object-centric learning" (DINOSAUR), ICLR 2023, section 3: an
image method, in which frozen features pass an MLP, slot attention groups them, and an MLP decodes every slot
at every patch into a feature and the logit of a mask; the loss is the squared error of the features. On video
its slots are paired from frame to frame by their cosines (Hungarian method), as is usual where it is compared
with video methods. The grouper ``slot_attention`` is made of the same parts over whole clips.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ovvol_plugins.slot_attention.model import Reconstruction, SlotAttentionGrouper, SlotAttentionSettings

from .linking import link


class Dinosaur(SlotAttentionGrouper):
    """Slot attention of single frames.

    All frames of a clip start from the same draws, so that their slots tend to agree before they are linked.

    Args:
        settings: architecture; ``frames`` is that of the clips, the decoder knows one.
    """

    name = "dinosaur"

    def __init__(self, settings: SlotAttentionSettings) -> None:
        super().__init__(replace(settings, frames=1))
        self.steps = settings.frames

    def masks(self, grid: Tensor, noise: Tensor) -> Tensor:
        """See `SlotAttentionGrouper.masks`; of any number of time steps."""
        frames, draws = _as_clips(grid, noise)
        slots, attention = self.slots(frames, draws)
        masks = self.masks_of(slots, attention, frames)[:, :, 0].unflatten(0, grid.shape[:2])
        numbers = torch.stack([_linked(clip) for clip in slots.unflatten(0, grid.shape[:2])])
        where = numbers.argsort(dim=2).to(masks.device)[..., None, None].expand_as(masks)
        linked: Tensor = masks.gather(2, where).transpose(1, 2)
        return linked

    def reconstruct(self, grid: Tensor, noise: Tensor, steps: Tensor | None = None) -> Reconstruction:
        """See `SlotAttentionGrouper.reconstruct`; frames that aren't decoded aren't grouped either."""
        chosen = grid if steps is None else grid[:, steps]
        made = super().reconstruct(*_as_clips(chosen, noise))
        features, masks = (values.unflatten(0, chosen.shape[:2]) for values in (made.features, made.masks))
        return Reconstruction(features[:, :, 0], masks[:, :, :, 0].transpose(1, 2))


def _as_clips(grid: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Every frame as a clip of its own, (B * S, 1, h, w, D), and its draws."""
    return grid.flatten(0, 1)[:, None], noise.repeat_interleave(grid.shape[1], dim=0)


def _linked(slots: Tensor) -> Tensor:
    """(S, K) number of every slot (S, K, slot_dim) of a clip, see `link`."""
    return torch.from_numpy(link(slots.detach().float().cpu().numpy()))
