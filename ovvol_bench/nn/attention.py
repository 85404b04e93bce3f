"""Softmax attention, quick on every device: `attend` for inference, `dot_product_attention` for training.

On a CPU in bfloat16 PyTorch's fused kernel (2.15, AVX-512) reaches a fifth of a matrix product's speed, and
a seventh with the backward pass.
"""

from __future__ import annotations

from math import ceil, log, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Factor on queries beside 1 / sqrt(d), so that the softmax can be taken in powers of two.
QUERY_SCALE = 1 / log(2)

# Scores kept at a time by each thread: 3 MiB of bfloat16, in the cache from step to step.
_SCORES_AT_ONCE = 3 * 2**19
# Attention weights kept at a time where gradients are needed: they then stay in the processor's cache.
_WEIGHTS_AT_ONCE = 2**20
# Below it the powers of a row are too near to bfloat16's smallest numbers to be trusted.
_LEAST_TOTAL = 2.0**-66


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Mix values by the softmax of query-key products, without gradients.

    On a CPU in bfloat16 the scores of a block of queries are computed, raised and used before the next
    block's. Scores and their powers are then rounded to bfloat16; sums are float32.

    Args:
        query: (B, H, N, d), multiplied with ``QUERY_SCALE`` / sqrt(d).
        key: (B, H, N, d).
        value: (B, H, N, d).

    Returns:
        (B, H, N, d) of the values' type.
    """
    if value.device.type != "cpu" or value.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, scale=log(2))
    with torch.autocast("cpu", enabled=False):
        found = _by_blocks(query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
    return found.view(query.shape)


def dot_product_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(Q K^T / sqrt(d) + mask) V, with gradients where they are enabled.

    On a CPU in bfloat16 it is made of matrix products, some examples at a time, and rounds otherwise than
    PyTorch's kernel; elsewhere it is `torch.nn.functional.scaled_dot_product_attention`.

    Args:
        query: (B, H, N, d).
        key: (B, H, M, d).
        value: (B, H, M, d).
        mask: (N, M), the same for all examples: float, added before the softmax, or bool, false where a query
            looks away; None: every query sees every key.

    Returns:
        (B, H, N, d) of the values' type.
    """
    if value.device.type != "cpu" or value.dtype != torch.bfloat16:
        return F.scaled_dot_product_attention(query, key, value, mask)
    scale = query.shape[-1] ** -0.5
    if mask is None and query.shape == key.shape and not torch.is_grad_enabled():
        return attend(query * (QUERY_SCALE * scale), key, value)
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, float("-inf"))
    examples = max(1, _WEIGHTS_AT_ONCE // (query.shape[1] * query.shape[2] * key.shape[2]))
    mixed = []
    for some, keys, values in zip(*(each.split(examples) for each in (query, key, value)), strict=True):
        weights = some * scale @ keys.transpose(-1, -2)
        if mask is not None:
            weights = weights + mask.to(weights.dtype)
        mixed.append(weights.softmax(dim=-1) @ values)
    return torch.cat(mixed)


class SelfAttention(nn.MultiheadAttention):
    """PyTorch's self-attention with `dot_product_attention` in it where that is quicker.

    Args:
        plain: whose parameters are shared, under the same names; batch first, with biases.
    """

    def __init__(self, plain: nn.MultiheadAttention) -> None:
        super().__init__(plain.embed_dim, plain.num_heads, batch_first=True, device="meta")  # draws nothing
        self.in_proj_weight, self.in_proj_bias = plain.in_proj_weight, plain.in_proj_bias
        self.out_proj = plain.out_proj

    def forward(self, query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Any:  # type: ignore[override]
        """Let (B, N, D) queries attend to themselves; options as in PyTorch, no weights are returned."""
        autocast = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else query.dtype
        if query.device.type != "cpu" or autocast != torch.bfloat16:
            return super().forward(query, key, value, **options)
        packed = F.linear(query, self.in_proj_weight, self.in_proj_bias)
        queries, keys, values = packed.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = dot_product_attention(queries, keys, values, options.get("attn_mask"))
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None


def quicken_attention(network: nn.Module) -> None:
    """Replace every `torch.nn.MultiheadAttention` of a network, in place, by `SelfAttention`.

    For networks of other libraries whose layers attend to their own input alone, such as CLIP's towers. Names
    and values of all parameters stay.
    """
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.MultiheadAttention:
                setattr(module, name, SelfAttention(child))


def _by_blocks(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend for (G, N, d), G clips and heads in one, some of them and some of the queries at a time."""
    groups, length, _ = query.shape
    threads = torch.get_num_threads()
    most = threads * _SCORES_AT_ONCE
    at_once = min(groups, max(threads, most // length**2))
    rows = ceil(length / ceil(length * length * at_once / most))  # blocks of one size
    memory = query.new_empty(at_once * rows * length)  # the same for every block
    found = torch.empty_like(query, memory_format=torch.contiguous_format)
    # A row of ones below the values: what it gives is the sum that a softmax divides by.
    counted = F.pad(value, (0, 1), value=1.0).transpose(1, 2).contiguous()
    for first in range(0, groups, at_once):
        some = slice(first, first + at_once)
        for start in range(0, length, rows):
            queries = query[some, start : start + rows].transpose(1, 2)
            shape = (len(queries), length, queries.shape[2])
            scores = memory[: prod(shape)].view(shape)
            mixed = _mixed(queries, key[some], counted[some], scores)
            found[some, start : start + rows] = mixed.transpose(1, 2)
    return found


def _mixed(query: Tensor, key: Tensor, counted: Tensor, scores: Tensor) -> Tensor:
    """Mix values for some queries, (G, d, n).

    Args:
        query: (G, d, n); queries come last, as the products are quickest so.
        key: (G, N, d).
        counted: (G, d + 1, N), values and then ones.
        scores: (G, N, n) memory.
    """
    # The largest score of a query is not looked for and subtracted: powers of two hardly ever leave the range
    # of bfloat16, which is float32's. Where they do, the block is computed once more, with it.
    torch.bmm(key, query, out=scores)
    mixed = torch.bmm(counted, scores.exp2_())
    total = mixed[:, -1:]
    if not ((total > _LEAST_TOTAL) & (total < torch.inf)).all():
        weights = (torch.bmm(key, query, out=scores).float() * log(2)).softmax(dim=1)
        mixed = torch.bmm(counted, weights.to(counted.dtype))
    return mixed[:, :-1] / mixed[:, -1:]
