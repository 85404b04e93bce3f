"""A slot's boxes, cut out of the frames and put through the whole CLIP: the plain way to name a region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align  # type: ignore[import-untyped]

from ovvol_bench import SettingError, SlotLabeler
from ovvol_bench.nn.clip.labeler import ClipLabeler
from ovvol_bench.nn.clip.towers import ClipTowers

_AT_ONCE = 64


@dataclass(frozen=True)
class Crops:
    """What is cut out.

    Attributes:
        context: share of a box's sides that is added to them, half on either side, within the frame.
        outside: ``keep`` shows all that the box shows, ``mean`` paints the patches of other slots over with
            the mean colour.
        frames: so many frames of a clip at most, evenly spread; None for all.

    Raises:
        SettingError: if a number is out of range.
    """

    context: float = 0.0
    outside: Literal["keep", "mean"] = "keep"
    frames: int | None = None

    def __post_init__(self) -> None:
        if self.context < 0:
            raise SettingError(f"labeler.context={self.context}: expected 0 or more.")
        if self.frames is not None and self.frames < 1:
            raise SettingError(f"labeler.frames={self.frames}: expected at least 1, or none for all.")


class CropClip(ClipLabeler, SlotLabeler):
    """The class token of every crop; a slot has the sum over its frames, each of length 1.

    A box is stretched to the square that CLIP was trained on.

    Args:
        towers: of the CLIP.
        crops: what is cut out.
    """

    def __init__(self, towers: ClipTowers, crops: Crops) -> None:
        super().__init__(towers)
        self.crops = crops

    def embed_slots(self, video: Tensor, slots: Tensor, num_slots: int) -> Tensor:
        """See `SlotLabeler.embed_slots`."""
        numbers = torch.arange(num_slots, device=slots.device)[:, None, None]
        found = video.new_zeros(len(video), num_slots, self.dim, dtype=torch.float32)
        for clip, (frames, grid) in enumerate(zip(video, slots, strict=True)):
            chosen = self._chosen(len(frames), slots.device)
            members = grid[chosen][:, None] == numbers
            present = members.flatten(2).any(dim=2).nonzero()
            for part in present.split(_AT_ONCE):
                pictures = self._cut(frames[chosen], members, part)
                token = self.shared(self.tokens(pictures)[:, 0])
                found[clip].index_add_(0, part[:, 1], F.normalize(token.float(), dim=-1))
        return found

    def _chosen(self, frames: int, device: torch.device) -> Tensor:
        """(F,) int64 frames that are looked at."""
        count = min(frames, self.crops.frames or frames)
        return ((2 * torch.arange(count, device=device) + 1) * frames) // (2 * count)

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
        if self.crops.outside == "mean":  # the mean colour is 0 in normalised pixels
            pictures = pictures * F.interpolate(masks[:, None].to(pictures), size=pictures.shape[-2:])
        boxes = _boxes(masks, (pictures.shape[-2], pictures.shape[-1]), self.crops.context)
        cut: Tensor = roi_align(pictures, list(boxes[:, None]), (size, size), aligned=True)
        return cut


def _boxes(masks: Tensor, size: tuple[int, int], context: float) -> Tensor:
    """(N, 4) float32 x1, y1, x2, y2 around the patches of masks (N, h, w), pixels, ends exclusive."""
    sides = list(_sides(masks, size, context))
    (top, bottom), (left, right) = sides
    return torch.stack([left, top, right, bottom], dim=1)


def _sides(masks: Tensor, size: tuple[int, int], context: float) -> Iterator[tuple[Tensor, Tensor]]:
    """First and last coordinate of each mask, from top to bottom and from left to right."""
    for axis, pixels in zip((2, 1), size, strict=True):
        occupied = masks.any(dim=axis).float()
        cells = occupied.shape[1]
        first = occupied.argmax(dim=1) * pixels / cells
        last = (cells - occupied.flip(1).argmax(dim=1)) * pixels / cells
        margin = (last - first) * context / 2
        yield (first - margin).clamp(min=0), (last + margin).clamp(max=pixels)
