"""Labelers that read patches off a frozen CLIP without training."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench import Features, GuidedLabeler, Labeler, SettingError
from ovvol_bench.nn.clip.labeler import ClipLabeler
from ovvol_bench.nn.clip.towers import ClipTowers

from .attention import Attention, beside, changed, joined, projections, proxy_weights


class _OnLastBlocks(ClipLabeler):
    """A frozen CLIP whose last blocks attend otherwise.

    Args:
        towers: of the CLIP.
        attention: of the changed blocks.
        normalize: give patch embeddings length 1, as the methods' papers do.

    Raises:
        SettingError: if more blocks are to be changed than there are.
    """

    def __init__(self, towers: ClipTowers, attention: Attention, normalize: bool = True) -> None:
        super().__init__(towers)
        if attention.last_blocks > self.numbers.layers:
            raise SettingError(
                f"labeler.last_blocks={attention.last_blocks}: the CLIP has {self.numbers.layers} blocks. "
                f"Set -o labeler.last_blocks to at most that."
            )
        self.attention, self.normalize = attention, normalize
        self.own_blocks = attention.last_blocks
        blocks = self.model.transformer.resblocks
        self._blocks = list(blocks[len(blocks) - attention.last_blocks :])

    def _before(self, video: Tensor) -> Tensor:
        """(B * T, 1 + h*w, width) tokens that enter the first changed block."""
        return self.tokens(video.flatten(0, 1), last_blocks=self.attention.last_blocks)

    def _embedded(self, patches: Tensor) -> Tensor:
        """(..., width) patches in the space that texts share."""
        found = self.shared(patches)
        return F.normalize(found.float(), dim=-1) if self.normalize else found


class DenseClip(_OnLastBlocks, Labeler):
    """Patches of a frozen CLIP, its last blocks changed; see `Attention` for how."""

    def embed_patches(self, video: Tensor) -> Tensor:
        """See `Labeler.embed_patches`."""
        tokens, grid = self._before(video), self.grid(video)
        if self.attention.dual_path:
            tokens = beside(self._blocks, tokens, grid, self.attention)
        else:
            for block in self._blocks:
                tokens = changed(block, tokens, grid, self.attention)
        return self._embedded(tokens[:, 1:]).view(*video.shape[:2], *grid, self.dim)


class ProxyClip(_OnLastBlocks, GuidedLabeler):
    """Patches of a frozen CLIP whose last block attends as an encoder's features are alike."""

    def embed_patches(self, video: Tensor, features: Features) -> Tensor:
        """See `GuidedLabeler.embed_patches`: values are resized to the features' grid, bilinearly."""
        (block,), (batch, frames) = self._blocks, video.shape[:2]
        steps, *grid = features.grid.shape[1:4]
        weights = proxy_weights(features.grid.flatten(2, 3).flatten(0, 1), self.attention)
        weights = weights.repeat_interleave(frames // steps, dim=0)[:, None]
        _, _, values = projections(block, self._before(video))
        with torch.autocast(video.device.type, enabled=False):
            mixed = weights @ _resized(values[:, :, 1:].float(), self.grid(video), (grid[0], grid[1]))
        return self._embedded(joined(block, mixed)).view(batch, frames, *grid, self.dim)


def _resized(values: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(N, heads, h*w, d) values on another grid (h', w'): (N, heads, h'*w', d)."""
    if grid == size:
        return values
    maps = values.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    resized = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2).view(*values.shape[:2], -1, values.shape[3])
