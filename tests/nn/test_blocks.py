"""Packed layers and blocks, beside the plain ones that they are made from."""

import pytest
import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock
from torch import nn

from ovvol_bench.nn import blocks as linear
from ovvol_bench.nn.blocks import PackedBlock, PackedLinear, packs
from ovvol_bench.nn.clip.towers import packed_block
from ovvol_plugins.videomae.model import Block

FUNCTIONS = {"none": lambda x: x, "relu": torch.relu, "gelu": F.gelu, "silu": F.silu}


def some_tokens(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def near(found, expected):
    return (found.float() - expected).abs().max() < 0.02 * expected.abs().max()


@pytest.mark.parametrize("activation", FUNCTIONS)
@pytest.mark.parametrize("packed", [True, False])
def test_a_packed_layer_is_the_layer(monkeypatch, activation, packed):
    if packed and not packs(torch.bfloat16):
        pytest.skip("needs a CPU that multiplies bfloat16")
    if not packed:
        monkeypatch.setattr(linear, "packs", lambda precision: False)
    torch.manual_seed(0)
    layer, tokens = nn.Linear(24, 40), some_tokens(2, 5, 24)
    found = PackedLinear.of(layer, torch.bfloat16, activation)(tokens)
    assert found.shape == (2, 5, 40)
    assert found.dtype == torch.bfloat16
    assert near(found, FUNCTIONS[activation](layer(tokens)))


def test_a_layer_without_bias():
    weight, tokens = some_tokens(6, 4), some_tokens(3, 4)
    assert near(PackedLinear(weight, None, torch.bfloat16)(tokens), tokens @ weight.T)


def test_full_precision_is_the_same():
    torch.manual_seed(0)
    layer, tokens = nn.Linear(24, 40), some_tokens(2, 5, 24)
    assert torch.allclose(PackedLinear.of(layer, torch.float32)(tokens), layer(tokens), atol=1e-6)


class TestBlocks:
    @torch.no_grad()
    def test_of_videomae(self):
        torch.manual_seed(0)
        block, tokens = Block(24, 3, 4.0).eval(), some_tokens(2, 11, 24)
        for bias in (block.attn.q_bias, block.attn.v_bias):
            nn.init.normal_(bias)
        kept = tokens.clone()
        assert near(PackedBlock(block.parts(), torch.bfloat16)(tokens), block(tokens))
        assert torch.equal(tokens, kept)
        exact = PackedBlock(block.parts(), torch.float32)(tokens)
        assert torch.allclose(exact, block(tokens), atol=1e-5)

    @torch.no_grad()
    @pytest.mark.parametrize(("quick", "activation"), [(True, QuickGELU), (False, nn.GELU)])
    def test_of_clip(self, quick, activation):
        torch.manual_seed(0)
        block = ResidualAttentionBlock(24, 3, 2.0, act_layer=activation).eval()
        tokens = some_tokens(2, 11, 24)
        assert near(packed_block(block, quick, torch.bfloat16)(tokens), block(tokens))
        exact = packed_block(block, quick, torch.float32)(tokens)
        assert torch.allclose(exact, block(tokens), atol=1e-5)

    @torch.no_grad()
    def test_autocast_changes_nothing(self):
        torch.manual_seed(0)
        packed, tokens = PackedBlock(Block(24, 3, 4.0).parts(), torch.bfloat16), some_tokens(2, 11, 24)
        alone = packed(tokens)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.allclose(packed(tokens), alone, atol=0.02)
