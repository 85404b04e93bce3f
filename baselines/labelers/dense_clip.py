"""Labelers that read patches off a frozen CLIP without training."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Gt
from torch import Tensor

from ovvol_bench import Features, GuidedLabeler, Labeler, Pretrained, SettingError
from ovvol_bench.nn.clip.labeler import ClipLabeler
from ovvol_bench.nn.clip.pretrained import load_clip
from ovvol_bench.nn.clip.towers import ClipTowers
from ovvol_bench.registry.annotations import Layers

from .attention import Attention, Kind, beside, changed, joined, projections, proxy_weights


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
        (block,), (batch, frames) = self._blocks, video.shape[:2]
        steps, *grid = features.grid.shape[1:4]
        weights = proxy_weights(features.grid.flatten(2, 3).flatten(0, 1), self.attention)
        weights = weights.repeat_interleave(frames // steps, dim=0)[:, None]
        _, _, values = projections(block, self._before(video))
        with torch.autocast(video.device.type, enabled=False):
            # values on the features' grid, bilinearly
            mixed = weights @ _resized(values[:, :, 1:].float(), self.grid(video), (grid[0], grid[1]))
        return self._embedded(joined(block, mixed)).view(batch, frames, *grid, self.dim)


def _resized(values: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """(N, heads, h*w, d) values on another grid (h', w'): (N, heads, h'*w', d)."""
    if grid == size:
        return values
    maps = values.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
    resized = F.interpolate(maps, size=size, mode="bilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2).view(*values.shape[:2], -1, values.shape[3])


def build_clip(
    *,
    model: str = "ViT-B-16-quickgelu",
    pretrained: Annotated[str | None, Pretrained] = "openai",
    attention: Kind = "vanilla",
    residual: bool = True,
    feed_forward: bool = True,
    last_blocks: Layers = 1,
    dual_path: bool = False,
    gauss_std: Annotated[float, Gt(0)] = 5.0,
    proxy_shift: float = 1.2,
    proxy_scale: Annotated[float, Gt(0)] = 3.0,
    normalize: bool = True,
) -> DenseClip | ProxyClip:
    """Read patches off a frozen CLIP whose last blocks attend otherwise, without training.

    Args:
        model: name of a CLIP in open_clip, or ``custom`` for the one that ``pretrained`` holds and states.
        pretrained: where its weights come from: a tag of open_clip's (``openai``), a file, PACKAGE:NAME for
            one that comes with a plugin, or None for random ones.
        attention: how the changed blocks attend: queries to keys (vanilla), one of queries, keys and values
            to itself (qq, kk, vv), the sum of two softmaxes (qq+kk), keys with a bonus for near patches
            (kk+gauss), each token to itself (identity), or as an encoder's features are alike (proxy).
        residual: add what went into a changed block.
        feed_forward: apply its MLP.
        last_blocks: how many blocks are changed.
        dual_path: keep the blocks beside the changed attention, which reads their tokens and adds up.
        gauss_std: of the bonus, patches.
        proxy_shift: similarities below so many times their mean are cut off.
        proxy_scale: factor on the others.
        normalize: give patches length 1, as all of the papers do: long ones weigh no more in a slot.

    Raises:
        SettingError: if settings are unknown or do not fit together.
        WeightsError: if weights can't be had or do not fit.
    """
    path = (residual, feed_forward, last_blocks, dual_path)
    chosen = Attention(attention, *path, gauss_std, proxy_shift, proxy_scale)
    kind = ProxyClip if attention == "proxy" else DenseClip
    return kind(load_clip(model, pretrained), chosen, normalize)
