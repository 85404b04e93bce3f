"""Attention block by block and by matrix products, beside PyTorch's own."""

import pytest
import torch
import torch.nn.functional as F

from ovvol_bench.nn import attention
from ovvol_bench.nn.attention import QUERY_SCALE, attend, dot_product_attention, quicken_attention

CAUSAL = torch.full((40, 40), float("-inf")).triu(1)
MASKS = {"none": None, "float": CAUSAL, "bool": CAUSAL == 0}


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


def with_gradients(function, inputs, mask=None):
    """What a function mixes, and the gradients of the sum of its squares."""
    own = [value.detach().clone().requires_grad_() for value in inputs]
    answer = function(*own, mask)
    answer.float().square().sum().backward()
    return [answer, *(value.grad for value in own)]


def near(found, wanted, share):
    return (found.double() - wanted.double()).std() < share * wanted.double().std()


@pytest.fixture
def no_fused_kernel(monkeypatch):
    """The fused kernel answers nothing."""
    fused = F.scaled_dot_product_attention

    def refuse(*args, **kwargs):
        raise AssertionError("the fused kernel was asked")

    monkeypatch.setattr(F, "scaled_dot_product_attention", refuse)
    return fused


class TestTraining:
    @pytest.mark.parametrize("at_once", [1, 3000, 2**20])
    @pytest.mark.parametrize("mask", MASKS)
    def test_answers_and_gradients_are_right_in_parts_of_any_size(
        self, monkeypatch, no_fused_kernel, mask, at_once
    ):
        monkeypatch.setattr(attention, "_WEIGHTS_AT_ONCE", at_once)
        inputs = [part.bfloat16() for part in some_heads(5, 2, 40)]
        found = with_gradients(dot_product_attention, inputs, MASKS[mask])
        for one, other in zip(found, with_gradients(no_fused_kernel, inputs, MASKS[mask]), strict=True):
            assert one.dtype == torch.bfloat16
            assert near(one, other, 0.01)

    @pytest.mark.parametrize("queries", [40, 9])
    def test_answers_without_gradients_are_the_same(self, no_fused_kernel, queries):
        query, key, value = (part.bfloat16() for part in some_heads(5, 2, 40))
        query = query[:, :, :queries]
        with torch.no_grad():
            assert near(dot_product_attention(query, key, value), no_fused_kernel(query, key, value), 0.01)

    def test_float32_is_left_to_the_fused_kernel(self):
        inputs = some_heads(5, 2, 40)
        assert torch.equal(
            dot_product_attention(*inputs, CAUSAL), F.scaled_dot_product_attention(*inputs, CAUSAL)
        )


class TestLayersOfPytorch:
    def pair(self):
        """A plain layer, and one with the same parameters in a network whose attention is made quick."""
        torch.manual_seed(0)
        plain = torch.nn.MultiheadAttention(32, 2, batch_first=True)
        network = torch.nn.ModuleDict({"attn": plain})
        before = list(network.state_dict())
        state = torch.get_rng_state()
        quicken_attention(network)
        assert list(network.state_dict()) == before
        assert torch.equal(torch.get_rng_state(), state), "no draws are taken"
        assert network["attn"].in_proj_weight is plain.in_proj_weight
        return plain, network["attn"], torch.randn(3, 40, 32)

    def test_they_use_products_in_bfloat16(self, no_fused_kernel):
        plain, quick, tokens = self.pair()
        with torch.autocast("cpu", torch.bfloat16):
            answer, _ = quick(tokens, tokens, tokens, need_weights=False, attn_mask=CAUSAL)
        expected, _ = plain(tokens, tokens, tokens, attn_mask=CAUSAL)
        assert near(answer, expected, 0.02)

    def test_their_parameters_learn_the_same(self):
        plain, quick, tokens = self.pair()
        gradients = []
        for layer in (plain, quick):
            layer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                layer(tokens, tokens, tokens, need_weights=False)[0].float().square().sum().backward()
            gradients.append([value.grad.clone() for value in layer.parameters()])
        assert all(near(one, other, 0.03) for one, other in zip(*gradients, strict=True))

    def test_in_float32_they_are_as_they_were(self):
        plain, quick, tokens = self.pair()
        given = {"need_weights": False, "attn_mask": CAUSAL}
        assert torch.equal(
            quick(tokens, tokens, tokens, **given)[0], plain(tokens, tokens, tokens, **given)[0]
        )
