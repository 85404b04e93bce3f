"""Case h, learning rate: the schedule of slot attention training."""

import math

import pytest
import torch
from golden_vectors import load_case
from torch import nn

from ovvol_bench.training import warmup_exponential


def schedule(folder):
    case = load_case(folder, "schedule_resize_sampling")
    return case["learning_rate"] if "learning_rate" in case else pytest.skip("the case has no schedule")


def test_golden_schedule_factors(golden):
    case = schedule(golden)
    for item in case.get("factors", []):
        found = warmup_exponential(
            item["step"], 0, case["warmup_steps"], case["decay_rate"], case["decay_steps"]
        )
        assert math.isclose(found, item["factor"], rel_tol=1e-12), item


def test_golden_schedule_first_steps_of_an_optimizer(golden):
    case = schedule(golden)
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))], lr=case["base_lr"])
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: warmup_exponential(
            step, 0, case["warmup_steps"], case["decay_rate"], case["decay_steps"]
        ),
    )
    for want in case.get("lr_of_first_four_optimiser_steps", []):
        assert math.isclose(scheduler.get_last_lr()[0], want, rel_tol=1e-12)
        optimizer.step()
        scheduler.step()
