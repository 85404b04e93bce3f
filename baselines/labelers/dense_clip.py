"""Labelers that read patches off a frozen CLIP without training, its last blocks changed.

CLIP trains the class token alone; what its last blocks make of a patch is a mixture of the whole picture.
Methods without training change how these blocks attend, so that patches keep what is theirs. All of them are
settings here; their papers are named in ``ovvol_baselines.labelers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from annotated_types import Gt
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from ovvol_bench import Features, GuidedLabeler, Labeler, Pretrained, SettingError
from ovvol_bench.nn.clip.labeler import ClipLabeler
from ovvol_bench.nn.clip.pretrained import load_clip
from ovvol_bench.nn.clip.towers import ClipTowers
from ovvol_bench.registry.annotations import Layers

Kind = Literal["vanilla", "identity", "qq", "kk", "vv", "qq+kk", "kk+gauss", "proxy"]
Grid = tuple[int, int]


@dataclass(frozen=True)
class Attention:
    """Attention of changed blocks.

    Attributes:
        kind: what is compared with what: ``vanilla`` queries with keys, ``qq``, ``kk``, ``vv`` one of the
            three with itself, ``qq+kk`` the sum of two softmaxes, ``kk+gauss`` keys with a bonus for near
            patches, ``identity`` none: each token keeps its value, ``proxy`` an encoder's features.
        residual: add what went into the block.
        feed_forward: apply the block's MLP, with its own residual.
        last_blocks: how many blocks are changed.
        dual_path: keep the blocks as they are beside the changed attention, which reads the tokens of the
            unchanged path and adds up beside it.
        gauss_std: of the bonus of ``kk+gauss``, patches.
        proxy_shift: ``proxy``: similarities below so many times their mean are cut off.
        proxy_scale: ``proxy``: factor on the others.

    Raises:
        SettingError: if ``proxy`` is asked for more than it has.
    """

    kind: Kind = "vanilla"
    residual: bool = True
    feed_forward: bool = True
    last_blocks: int = 1
    dual_path: bool = False
    gauss_std: float = 5.0
    proxy_shift: float = 1.2
    proxy_scale: float = 3.0

    def __post_init__(self) -> None:
        kept = self.residual or self.feed_forward or self.dual_path
        if self.kind == "proxy" and (kept or self.last_blocks > 1):
            raise SettingError(
                "labeler.attention=proxy replaces the last block on the encoder's patch grid: expected "
                "residual=false, feed_forward=false, dual_path=false, last_blocks=1."
            )


def changed(block: ResidualAttentionBlock, tokens: Tensor, grid: Grid, attention: Attention) -> Tensor:
    """Put tokens through a changed block.

    Args:
        block: of the image tower.
        tokens: (N, 1 + h*w, width), class token first.
        grid: (h, w).
        attention: of any kind but ``proxy``.

    Returns:
        (N, 1 + h*w, width).
    """
    found = attended(block, tokens, grid, attention)
    if attention.residual:
        found = tokens + found
    if attention.feed_forward:
        found = found + block.ls_2(block.mlp(block.ln_2(found)))
    return found


def beside(blocks: list[ResidualAttentionBlock], tokens: Tensor, grid: Grid, attention: Attention) -> Tensor:
    """Put tokens through the changed path where blocks are kept and changed ones run beside them.

    Args:
        blocks: of the image tower, in order.
        tokens: (N, 1 + h*w, width) that enter the first of them.
        grid: (h, w).
        attention: of any kind but ``proxy``.

    Returns:
        (N, 1 + h*w, width).
    """
    path = tokens
    for block in blocks:
        found = attended(block, tokens, grid, attention)
        path = path + found if attention.residual else found
        if attention.feed_forward:
            path = path + block.ls_2(block.mlp(block.ln_2(path)))
        tokens = block(tokens)
    return path


def attended(block: ResidualAttentionBlock, tokens: Tensor, grid: Grid, attention: Attention) -> Tensor:
    """Apply a block's changed attention alone to tokens: (N, 1 + h*w, width)."""
    query, key, value = projections(block, tokens)
    attend = F.scaled_dot_product_attention
    match attention.kind:
        case "identity":
            mixed = value
        case "qq+kk":
            mixed = attend(query, query, value) + attend(key, key, value)
        case "kk+gauss":
            bonus = nearness(grid, attention.gauss_std).to(key)
            mixed = attend(key, key, value, attn_mask=bonus)
        case kind:
            pairs = {"vanilla": (query, key), "qq": (query, query), "vv": (value, value)}
            mixed = attend(*pairs.get(kind, (key, key)), value)
    return joined(block, mixed)


def projections(block: ResidualAttentionBlock, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return queries, keys and values of tokens (N, L, width), each (N, heads, L, width / heads)."""
    weights = block.attn
    packed = F.linear(block.ln_1(tokens), weights.in_proj_weight, weights.in_proj_bias)
    query, key, value = (
        part.unflatten(-1, (weights.num_heads, -1)).transpose(1, 2) for part in packed.chunk(3, dim=-1)
    )
    return query, key, value


def joined(block: ResidualAttentionBlock, heads: Tensor) -> Tensor:
    """Project heads (N, heads, L, width / heads) back to the block's width: (N, L, width)."""
    return block.ls_1(block.attn.out_proj(heads.transpose(1, 2).flatten(2)))  # type: ignore[no-any-return]


def nearness(grid: Grid, std: float) -> Tensor:
    """Return exp(-d^2 / (2 std^2)) of the distance d between patches, 0 for the class token.

    Returns:
        (1 + h*w, 1 + h*w) float32.
    """
    rows, columns = (torch.arange(size, dtype=torch.float32) for size in grid)
    places = torch.cartesian_prod(rows, columns).view(-1, 2)
    squares = (places[:, None] - places).square().sum(dim=-1)
    return F.pad((-squares / (2 * std**2)).exp(), (1, 0, 1, 0))


def proxy_weights(features: Tensor, attention: Attention) -> Tensor:
    """Weigh patches for each other by an encoder's features.

    Cosines, less ``proxy_shift`` times their mean, times ``proxy_scale``; what is then below 0 is cut off,
    and the rest goes through a softmax.

    Args:
        features: (N, P, D).
        attention: gives shift and scale.

    Returns:
        (N, P, P) float32, rows sum to 1.
    """
    with torch.autocast(features.device.type, enabled=False):
        unit = F.normalize(features.float(), dim=-1)
        cosines = unit @ unit.transpose(1, 2)
        least = attention.proxy_shift * cosines.mean(dim=(1, 2), keepdim=True)
        scores = (cosines - least) * attention.proxy_scale
        # A patch always attends to itself, so that no row is empty.
        itself = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
        return scores.masked_fill((scores < 0) & ~itself, -torch.inf).softmax(dim=-1)


class _OnLastBlocks(ClipLabeler):
    """Base on a frozen CLIP whose last blocks attend otherwise.

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
        """Return the (B * T, 1 + h*w, width) tokens that enter the first changed block."""
        return self.tokens(video.flatten(0, 1), last_blocks=self.attention.last_blocks)

    def _embedded(self, patches: Tensor) -> Tensor:
        """Project (..., width) patches into the space that texts share."""
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
            mixed = weights @ _resized(values[:, :, 1:].float(), self.grid(video), (grid[0], grid[1]))
        return self._embedded(joined(block, mixed)).view(batch, frames, *grid, self.dim)


def _resized(values: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Resize values (N, heads, h*w, d) bilinearly to another grid, (N, heads, h'*w', d)."""
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
