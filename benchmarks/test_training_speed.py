"""Speed of training: a step of masked pre-training by the share of hidden patches, and an optimizer's step.

    pytest benchmarks/test_training_speed.py --benchmark-enable

Whole recipes with their data are timed by ``benchmarks/training_speed.py``.
"""

import pytest
import torch

from ovvol_bench.fidelity import autocast, best_precision
from ovvol_bench.training import Optimization
from ovvol_bench.training.optimization import make_optimizer
from ovvol_plugins.videomae.model import VideoMAE
from ovvol_plugins.videomae.pretraining import VideoMAEPretraining, pretraining_loss, tube_mask
from ovvol_plugins.videomae.settings import VideoMAESettings

CPU = torch.device("cpu")
CLIPS, GRID = 4, (8, 12, 16)
SHAPES = VideoMAESettings(
    patch_size=8, dim=192, depth=4, heads=4, position_frames=8, position_grid=16, final_norm=True
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VideoMAEPretraining(VideoMAE(SHAPES), 96, 1, 3, norm_targets=False)


def encoder_loss(model, video, mask):
    """A loss on the encoder's tokens, which no decoder is needed for."""
    encoder = model.encoder
    return encoder.transform(encoder.embed_some(video, ~mask)).float().square().mean()


LOSSES = {"encoder": encoder_loss, "whole": pretraining_loss}


@pytest.mark.parametrize("ratio", [0.1, 0.5, 0.8, 0.9])
@pytest.mark.parametrize("part", LOSSES)
def test_a_step_of_pretraining(benchmark, model, part, ratio):
    """The encoder is given the visible patches alone, so its time goes down with them."""
    draw = torch.Generator().manual_seed(0)
    video = torch.randn(CLIPS, GRID[0], 3, 8 * GRID[1], 8 * GRID[2], generator=draw)
    mask = tube_mask(GRID, ratio, draw, CLIPS)
    tokens = []
    hook = model.encoder.blocks[0].register_forward_hook(
        lambda _, given, __: tokens.append(given[0].shape[1])
    )

    def step():
        model.zero_grad()
        with autocast(CPU, best_precision(CPU)):
            loss = LOSSES[part](model, video, mask)
        loss.backward()
        return loss

    try:
        loss = benchmark.pedantic(step, rounds=5, warmup_rounds=int(not benchmark.disabled))
    finally:
        hook.remove()
    assert torch.isfinite(loss)
    assert set(tokens) == {int((~mask[0]).sum())}
    benchmark.extra_info["visible patches"] = tokens[0]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_an_optimizer_step(benchmark, optimizer):
    torch.manual_seed(0)
    parameters = [torch.nn.Parameter(value.detach().clone()) for value in VideoMAE(SHAPES).parameters()]
    numbers = Optimization(optimizer, 1e-3, lambda step, total: 1.0, 1, 1)
    taken = make_optimizer([{"params": parameters}], numbers)
    for value in parameters:
        value.grad = torch.ones_like(value)
    before = parameters[0].detach().clone()
    benchmark(taken.step)
    assert (parameters[0] < before).all(), "against the gradient"
