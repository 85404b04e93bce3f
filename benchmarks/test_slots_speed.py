"""Speed of slot attention and of its decoder's masks, at the size of preset `shapes` and at the paper's.

pytest benchmarks/test_slots_speed.py --benchmark-enable -m ''
"""

import pytest
import torch
from clip_scenes import GRIDS, draws, features_of

from ovvol_bench.fidelity import autocast
from ovvol_plugins.slot_attention.model import SlotAttentionGrouper

CPU = torch.device("cpu")
SETTINGS = {
    "small": {
        "num_slots": 8,
        "slot_dim": 64,
        "feature_dim": 192,
        "iterations": 20,
        "decoder_dim": 128,
        "position_grid": 16,
    },
    "paper": {},
}
SIZES = ["small", pytest.param("paper", marks=pytest.mark.slow)]
PRECISIONS = ["float32", "bfloat16"]


@pytest.fixture(autouse=True)
def inference():
    with torch.inference_mode():
        yield


def grouper_of(size):
    torch.manual_seed(0)
    grouper = SlotAttentionGrouper(**SETTINGS[size]).eval()
    return grouper, features_of(GRIDS[size], grouper.feature_dim, clips=2), grouper.noise(draws(2))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", SIZES)
def test_finding_slots(benchmark, size, precision):
    grouper, features, noise = grouper_of(size)
    with autocast(CPU, getattr(torch, precision)):
        slots, attention = benchmark(grouper.slots, features.grid, noise)
        alone, _ = grouper.slots(features.grid[1:], noise[1:])
    torch.testing.assert_close(attention.sum(dim=1), torch.ones(2, attention.shape[2]))
    torch.testing.assert_close(slots[1:].float(), alone.float(), atol=0.05, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_one_round_of_attention(benchmark, size):
    """Always float32: slots feed back into themselves."""
    grouper, features, noise = grouper_of(size)
    iteration = grouper.grouping.slot_attention
    iteration.iterations = 1
    tokens = grouper.grouping.positional_embedding(features.grid.flatten(1, 3))
    initial = grouper.conditioning(noise)
    slots, attention = benchmark(iteration, tokens, initial)
    assert slots.shape == initial.shape
    queries, keys = (
        iteration.to_q(iteration.norm_slots(initial)),
        iteration.to_k(iteration.norm_input(tokens)),
    )
    expected = (queries @ keys.transpose(1, 2) * initial.shape[-1] ** -0.5).softmax(dim=1)
    torch.testing.assert_close(attention, expected)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("size", SIZES)
def test_decoder_masks(benchmark, size, precision):
    grouper, _, noise = grouper_of(size)
    grid = GRIDS[size][1:]
    with autocast(CPU, getattr(torch, precision)):
        masks = benchmark(grouper.decoder.masks, noise, grid)
    expected = grouper.decoder(noise, grid).masks
    torch.testing.assert_close(
        masks.float(), expected, atol=0.02 if precision == "bfloat16" else 1e-5, rtol=0
    )
