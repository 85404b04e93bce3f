"""Attention by matrix products is attention."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from ovvol_bench.training import attention
from ovvol_bench.training.attention import quick_attention

CPU = torch.device("cpu")
FUSED = F.scaled_dot_product_attention


def drawn(dtype=torch.bfloat16, shape=(5, 2, 40, 16)):
    """Query, key and value that want gradients."""
    draw = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=draw).to(dtype).requires_grad_() for _ in range(3)]


def exact(inputs, mask=None):
    """In float64, with the gradients of the sum of squares."""
    doubles = [value.detach().double().requires_grad_() for value in inputs]
    answer = FUSED(*doubles, attn_mask=mask if mask is None or mask.dtype == torch.bool else mask.double())
    answer.square().sum().backward()
    return [answer, *(value.grad for value in doubles)]


CAUSAL = torch.full((40, 40), float("-inf")).triu(1)
MASKS = {"none": None, "float": CAUSAL, "bool": CAUSAL == 0, "in front": CAUSAL[None, None]}


@pytest.fixture
def no_fused_kernel(monkeypatch):
    """The fused kernel answers nothing."""

    def refuse(*args, **kwargs):
        raise AssertionError("the fused kernel was asked")

    monkeypatch.setattr(F, "scaled_dot_product_attention", refuse)


@pytest.mark.parametrize("at_once", [1, 3000, 2**20])
@pytest.mark.parametrize("mask", MASKS)
def test_answers_and_gradients_are_right_in_parts_of_any_size(monkeypatch, no_fused_kernel, mask, at_once):
    monkeypatch.setattr(attention, "_AT_ONCE", at_once)
    inputs = drawn()
    with quick_attention(CPU):
        answer = F.scaled_dot_product_attention(*inputs, attn_mask=MASKS[mask])
    answer.float().square().sum().backward()
    found = [answer, *(value.grad for value in inputs)]
    for one, other in zip(found, exact(inputs, MASKS[mask]), strict=True):
        assert one.dtype == torch.bfloat16
        assert (one.double() - other).std() < 0.01 * other.std()


@pytest.mark.parametrize("queries", [40, 9])
def test_answers_without_gradients_are_the_same(no_fused_kernel, queries):
    inputs = drawn()
    inputs[0] = inputs[0][:, :, :queries].detach().requires_grad_()
    with quick_attention(CPU), torch.no_grad():
        answer = F.scaled_dot_product_attention(*inputs)
    expected = exact(inputs)[0]
    assert (answer.double() - expected).std() < 0.01 * expected.std()


def test_float32_is_left_to_the_fused_kernel():
    inputs = drawn(torch.float32)
    with quick_attention(CPU):
        answer = F.scaled_dot_product_attention(*inputs)
    assert torch.equal(answer, FUSED(*inputs))


@pytest.mark.parametrize(
    "asked", [{"is_causal": True}, {"scale": 0.1}, {"attn_mask": CAUSAL.expand(5, 1, -1, -1)}]
)
def test_what_products_do_not_offer_is_left_to_the_fused_kernel(asked):
    inputs = drawn()
    asked = {name: value.bfloat16() if torch.is_tensor(value) else value for name, value in asked.items()}
    with quick_attention(CPU):
        answer = F.scaled_dot_product_attention(*inputs, **asked)
    assert torch.equal(answer, FUSED(*inputs, **asked))


def test_modules_of_pytorch_use_it_too(no_fused_kernel):
    layer = torch.nn.MultiheadAttention(32, 2, batch_first=True)
    tokens = torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(0))
    with quick_attention(CPU), torch.autocast("cpu", torch.bfloat16):
        answer, _ = layer(tokens, tokens, tokens, need_weights=False, attn_mask=CAUSAL)
    expected, _ = layer(tokens, tokens, tokens, attn_mask=CAUSAL)
    assert (answer - expected).std() < 0.02 * expected.std()


def test_the_function_is_there_again_afterwards_even_after_an_error():
    with pytest.raises(KeyError), quick_attention(CPU):
        assert F.scaled_dot_product_attention is not FUSED
        raise KeyError
    assert F.scaled_dot_product_attention is FUSED


def test_gpus_keep_their_kernels():
    with quick_attention(torch.device("cuda")):
        assert F.scaled_dot_product_attention is FUSED
