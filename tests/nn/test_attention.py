"""Attention block by block, beside PyTorch's own in float32."""

import pytest
import torch
import torch.nn.functional as F

from ovvol_bench.nn import attention
from ovvol_bench.nn.attention import QUERY_SCALE, attend


def some_heads(batch, heads, length, dim=16):
    generator = torch.Generator().manual_seed(length)
    return [torch.randn(batch, heads, length, dim, generator=generator) for _ in range(3)]


def exact(query, key, value):
    """The softmax of exact products: those that `attend` takes are scaled for powers of two."""
    parts = (part.float() for part in (query, key, value))
    return F.scaled_dot_product_attention(*parts, scale=1 / QUERY_SCALE)


@pytest.mark.parametrize("scores_at_once", [1, 100, 700, 2**21])
@pytest.mark.parametrize(("batch", "heads", "length"), [(1, 1, 1), (1, 3, 37), (2, 3, 20), (5, 2, 8)])
def test_blocks_give_what_the_whole_gives(monkeypatch, scores_at_once, batch, heads, length):
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", scores_at_once)
    query, key, value = (part.bfloat16() for part in some_heads(batch, heads, length))
    whole = exact(query, key, value)
    found = attend(query, key, value)
    assert found.dtype == torch.bfloat16
    assert found.shape == query.shape
    assert (found.float() - whole).abs().max() < 0.03 * whole.abs().max()


def test_full_precision_is_exact():
    query, key, value = some_heads(2, 3, 20)
    assert torch.allclose(attend(query, key, value), exact(query, key, value), atol=1e-6)


@pytest.mark.parametrize("scores_at_once", [1, 3 * 2**19])
@pytest.mark.parametrize("shift", [-256.0, 0.0, 256.0])
def test_scores_of_any_size(monkeypatch, shift, scores_at_once):
    monkeypatch.setattr(attention, "_SCORES_AT_ONCE", scores_at_once)
    query, key, value = some_heads(1, 2, 12)
    query, key = query.round().clamp(-1, 1), 2 * key.round().clamp(0, 1)  # even scores: bfloat16 holds them
    query[..., 0], key[..., 0] = shift, 1.0
    query, key, value = (part.bfloat16() for part in (query, key, value))
    assert (attend(query, key, value).float() - exact(query, key, value)).abs().max() < 0.05


def test_strided_heads_are_taken_as_they_are():
    packed = torch.randn(2, 20, 3, 4, 16, generator=torch.Generator().manual_seed(0)).bfloat16()
    strided = packed.permute(2, 0, 3, 1, 4).unbind(0)
    straight = [part.contiguous() for part in strided]
    assert torch.allclose(attend(*strided).float(), attend(*straight).float(), atol=0.02)
