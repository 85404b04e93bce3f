"""A slot's boxes, cut out of the frames and put through the whole CLIP: the plain way to name a region."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from torch import Tensor
from torchvision.ops import roi_align  # type: ignore[import-untyped]

from ovvol_bench import Pretrained, SlotLabeler
from ovvol_bench.nn.clip.labeler import ClipLabeler
from ovvol_bench.nn.clip.pretrained import load_clip

_AT_ONCE = 64


class CropClip(ClipLabeler, SlotLabeler):
    """Embed a slot's box in every frame as a picture of its own, and add up the frames.

    A box is cut out and stretched to the square that CLIP was trained on; its class token counts with length
    1. No paper's: the obvious way, at one CLIP a box.

    Args:
        model: name of a CLIP in open_clip, or ``custom`` for the one that ``pretrained`` holds and states.
        pretrained: where its weights come from: a tag of open_clip's (``openai``), a file, PACKAGE:NAME for
            one that comes with a plugin, or None for random ones.
        context: share of a box's sides that is added to them, half on either side, within the frame.
        outside: ``keep`` what the box shows of other slots, or paint it over with the ``mean`` colour.
        frames: so many frames of a clip at most, evenly spread; None for all.

    Raises:
        SettingError: if the model is unknown.
        WeightsError: if weights can't be had or do not fit.
    """

    def __init__(
        self,
        *,
        model: str = "ViT-B-16-quickgelu",
        pretrained: Annotated[str | None, Pretrained] = "openai",
        context: Annotated[float, Ge(0)] = 0.0,
        outside: Literal["keep", "mean"] = "keep",
        frames: Annotated[int, Ge(1)] | None = None,
    ) -> None:
        super().__init__(load_clip(model, pretrained))
        self.context, self.outside, self.frames = context, outside, frames

    def embed_slots(self, video: Tensor, slots: Tensor, num_slots: int) -> Tensor:
        numbers = torch.arange(num_slots, device=slots.device)[:, None, None]
        found = video.new_zeros(len(video), num_slots, self.dim, dtype=torch.float32)
        for clip, (frames, grid) in enumerate(zip(video, slots, strict=True)):
            count = min(len(frames), self.frames or len(frames))  # of frames, evenly spread
            chosen = ((2 * torch.arange(count, device=slots.device) + 1) * len(frames)) // (2 * count)
            members = grid[chosen][:, None] == numbers
            present = members.flatten(2).any(dim=2).nonzero()
            for part in present.split(_AT_ONCE):
                pictures = self._cut(frames[chosen], members, part)
                token = self.shared(self.tokens(pictures)[:, 0])
                found[clip].index_add_(0, part[:, 1], F.normalize(token.float(), dim=-1))
        return found

    def _cut(self, frames: Tensor, members: Tensor, wanted: Tensor) -> Tensor:
        """Crops of one size.

        Args:
            frames: (F, 3, H, W).
            members: (F, K, h, w) bool, the patches of every slot.
            wanted: (N, 2) int64, frame and slot.

        Returns:
            (N, 3, image_size, image_size).
        """
        masks = members[wanted[:, 0], wanted[:, 1]]
        size = self.numbers.image_size
        pictures = frames[wanted[:, 0]]
        if self.outside == "mean":  # the mean colour is 0 in normalised pixels
            pictures = pictures * F.interpolate(masks[:, None].to(pictures), size=pictures.shape[-2:])
        boxes = _boxes(masks, (pictures.shape[-2], pictures.shape[-1]), self.context)
        cut: Tensor = roi_align(pictures, list(boxes[:, None]), (size, size), aligned=True)
        return cut


def _boxes(masks: Tensor, size: tuple[int, int], context: float) -> Tensor:
    """Return (N, 4) x1, y1, x2, y2 around the patches of masks (N, h, w), pixels, ends exclusive."""
    starts, ends = [], []
    for axis, pixels in ((1, size[1]), (2, size[0])):  # across, then down
        occupied = masks.any(dim=axis).float()
        cells = occupied.shape[1]
        first = occupied.argmax(dim=1) * pixels / cells
        last = (cells - occupied.flip(1).argmax(dim=1)) * pixels / cells
        margin = (last - first) * context / 2
        starts.append((first - margin).clamp(min=0))
        ends.append((last + margin).clamp(max=pixels))
    return torch.stack(starts + ends, dim=1)
