"""The numbers of an optimization, and learning rates over time."""

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.training import Optimization, warmup_exponential


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"betas": (2.0, 3.0)}, "recipe.betas=2.0,3.0: expected two numbers from 0 to below 1"),
        ({"clip_gradients": -1.0}, "recipe.clip_gradients=-1.0: expected more than 0, or none"),
        ({"momentum": 1.0}, "recipe.momentum=1.0: expected 0 to below 1"),
    ],
)
def test_numbers_out_of_range_are_named(wrong, message):
    usual = {"optimizer": "adam", "learning_rate": 0.1, "factor": lambda step: 1.0}
    with pytest.raises(SettingError, match=message):
        Optimization(**usual, batch_size=2, epochs=1, **wrong)


def test_schedule_without_warm_up_starts_at_one():
    assert warmup_exponential(0, 30, warmup=0, decay_rate=0.25, decay_steps=20) == 1
    assert warmup_exponential(10, 30, warmup=0, decay_rate=0.25, decay_steps=20) == 0.5
