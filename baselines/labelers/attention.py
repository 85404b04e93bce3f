"""Attention of CLIP's last blocks, changed so that patches keep what is theirs.

CLIP trains the class token alone; what its last blocks make of a patch is a mixture of the whole picture.
Methods without training change how these blocks attend. One module has them all as settings; the methods'
papers are named in ``ovvol_baselines.labelers``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from open_clip.transformer import ResidualAttentionBlock
from torch import Tensor

from ovvol_bench import SettingError

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
    """Tokens after a changed block.

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
    """Tokens of the changed path where blocks are kept and changed ones run beside them.

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
    bonus = None
    if attention.kind == "kk+gauss":
        bonus = nearness(grid, attention.gauss_std).to(key)
    return joined(block, _mixed(attention.kind, query, key, value, bonus))


def projections(block: ResidualAttentionBlock, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values of tokens (N, L, width): each (N, heads, L, width / heads)."""
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
    """exp(-d^2 / (2 std^2)) of the distance d between patches, 0 for the class token.

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
    and the rest goes through a softmax. A patch always attends to itself, so that a row is never empty.

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
        itself = torch.eye(scores.shape[1], dtype=torch.bool, device=scores.device)
        return scores.masked_fill((scores < 0) & ~itself, -torch.inf).softmax(dim=-1)


def _mixed(kind: Kind, query: Tensor, key: Tensor, value: Tensor, bonus: Tensor | None) -> Tensor:
    """Values as each token attends to them; all (N, heads, L, width / heads)."""
    attend = F.scaled_dot_product_attention
    if kind == "identity":
        return value
    if kind == "qq+kk":
        return attend(query, query, value) + attend(key, key, value)
    pairs = {"vanilla": (query, key), "qq": (query, query), "vv": (value, value)}
    first, second = pairs.get(kind, (key, key))
    return attend(first, second, value, attn_mask=bonus)
