"""Slot attention frame by frame, the slots linked over the frames.

Seitzer et al., "Bridging the gap to real-world object-centric learning" (DINOSAUR), ICLR 2023, section 3: an
image method, in which frozen features pass an MLP, slot attention groups them, and an MLP decodes every slot
at every patch into a feature and the logit of a mask; the loss is the squared error of the features. On video
its slots are paired from frame to frame by their cosines (Hungarian method), as is usual where it is compared
with video methods. The grouper ``slot_attention`` is made of the same parts over whole clips.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
from torch import Tensor

from ovvol_bench import FromEncoder, Weights
from ovvol_bench.registry.annotations import Cells, Slots, Width
from ovvol_bench.weights import local_weights
from ovvol_plugins.slot_attention.model import Reconstruction, SlotAttentionGrouper

from .linking import link


class Dinosaur(SlotAttentionGrouper):
    """Group every frame by slot attention, and link the slots over the frames.

    All frames of a clip start from the same draws, so that their slots tend to agree before they are linked.

    Args:
        weights: path of a file from its training, or PACKAGE:NAME; None leaves the weights random.
        num_slots: slots K; at most so many objects are found in a clip.
        slot_dim: channels of a slot.
        frames: time steps of the clips that it is trained on; others may be grouped.
        decoder_dim: hidden width of the decoder.

    Raises:
        SettingError: if the numbers make a network larger than the machine's memory.
        WeightsError: if the weights can't be read or do not fit.
    """

    name = "dinosaur"

    def __init__(
        self,
        *,
        weights: Annotated[str | None, Weights] = None,
        num_slots: Slots = 7,
        slot_dim: Width = 256,
        frames: Annotated[Cells, FromEncoder("steps")] = 8,
        decoder_dim: Width = 2048,
        **settings: Any,
    ) -> None:
        sizes = {"num_slots": num_slots, "slot_dim": slot_dim, "decoder_dim": decoder_dim}
        super().__init__(frames=1, **sizes, **settings)  # its decoder knows one frame
        self.steps = frames
        if weights is not None:
            self.load_weights(local_weights(weights))

    def masks(self, grid: Tensor, noise: Tensor) -> Tensor:
        frames, draws = _as_clips(grid, noise)
        slots, attention = self.slots(frames, draws)
        masks = self.masks_of(slots, attention, frames)[:, :, 0].unflatten(0, grid.shape[:2])
        clips = slots.detach().float().cpu().unflatten(0, grid.shape[:2]).numpy()
        numbers = torch.stack([torch.from_numpy(link(clip)) for clip in clips])  # of every slot
        where = numbers.argsort(dim=2).to(masks.device)[..., None, None].expand_as(masks)
        linked: Tensor = masks.gather(2, where).transpose(1, 2)
        return linked

    def reconstruct(self, grid: Tensor, noise: Tensor, steps: Tensor | None = None) -> Reconstruction:
        # Frames that aren't decoded aren't grouped either.
        chosen = grid if steps is None else grid[:, steps]
        made = super().reconstruct(*_as_clips(chosen, noise))
        features, masks = (values.unflatten(0, chosen.shape[:2]) for values in (made.features, made.masks))
        return Reconstruction(features[:, :, 0], masks[:, :, :, 0].transpose(1, 2))


def _as_clips(grid: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Make every frame a clip of its own, (B * S, 1, h, w, D), and give it its clip's draws."""
    return grid.flatten(0, 1)[:, None], noise.repeat_interleave(grid.shape[1], dim=0)
