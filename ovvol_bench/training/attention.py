"""Attention that is quick to train with on CPUs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ovvol_bench.nn.attention import QUERY_SCALE, attend

_AT_ONCE = 2**20  # attention weights computed together: they then stay in the processor's cache


@contextmanager
def quick_attention(device: torch.device) -> Iterator[None]:
    """Let modules that call ``F.scaled_dot_product_attention`` have the quicker kernel for training.

    On CPUs PyTorch's fused kernel takes up to seven times as long in bfloat16 as matrix products do, most of
    it in the backward pass. There is no switch for another one, so the function itself is replaced. Nothing
    changes on GPUs, nor in float32, where the fused kernel is the quicker one.

    Args:
        device: that the modules are on.
    """
    if device.type != "cpu":
        yield
        return
    fused = F.scaled_dot_product_attention

    def choose(
        query: Tensor, key: Tensor, value: Tensor, attn_mask: Any = None, *others: Any, **named: Any
    ) -> Tensor:
        is_plain = query.dtype == torch.bfloat16 and query.ndim == 4 and not any((*others, *named.values()))
        mask_of_each = attn_mask is not None and attn_mask.ndim == 4 and len(attn_mask) > 1
        if is_plain and not mask_of_each:
            return products(query, key, value, attn_mask)
        return fused(query, key, value, attn_mask, *others, **named)

    _replace(choose)
    try:
        yield
    finally:
        _replace(fused)


def _replace(function: Callable[..., Tensor]) -> None:
    F.scaled_dot_product_attention = function


def products(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """softmax(Q K^T / sqrt(d) + mask) V in the precision of its arguments.

    Args:
        query: (B, heads, N, d).
        key: (B, heads, M, d).
        value: (B, heads, M, d).
        mask: (N, M), or with further dimensions in front that are the same for all examples: float, added
            before the softmax, or bool, false where a query looks away; None: every query sees every key.

    Returns:
        (B, heads, N, d).
    """
    if mask is not None and mask.dtype == torch.bool:
        mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, float("-inf"))
    if mask is None and query.shape == key.shape and not torch.is_grad_enabled():
        return attend(query * (QUERY_SCALE * query.shape[-1] ** -0.5), key, value)
    examples = max(1, _AT_ONCE // (query.shape[1] * query.shape[2] * key.shape[2]))
    parts = zip(query.split(examples), key.split(examples), value.split(examples), strict=True)
    return torch.cat([_product(*part, mask) for part in parts])


def _product(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    weights = query * query.shape[-1] ** -0.5 @ key.transpose(-1, -2)
    if mask is not None:
        weights = weights + mask.to(weights.dtype)
    mixed: Tensor = weights.softmax(dim=-1) @ value
    return mixed
