import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.training.order import Order, Share


def test_a_pass_shows_every_example_once_and_the_next_in_another_order():
    order = Order(count=10, batch_size=5, seed=3)
    laps = [[at.example for step in (2 * lap, 2 * lap + 1) for at in order.batch(step)] for lap in range(2)]
    assert sorted(laps[0]) == sorted(laps[1]) == list(range(10))
    assert laps[0] != laps[1]


def test_batches_run_on_over_the_end_of_a_pass():
    order = Order(count=3, batch_size=4, seed=0)
    seen = [at for step in range(3) for at in order.batch(step)]
    assert [at.lap for at in seen] == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3
    assert order.steps(4) == 3 and order.steps(0.1) == 1


def test_the_order_follows_from_seed_and_step_alone():
    assert Order(50, 8, 1).batch(9) == Order(50, 8, 1).batch(9)
    assert Order(50, 8, 1).batch(9) != Order(50, 8, 2).batch(9)


@pytest.mark.parametrize(("processes", "micro"), [(1, None), (2, None), (2, 2), (4, 1), (1, 3)])
def test_shares_of_all_processes_make_the_step(processes, micro):
    batch = Order(40, 12, 0).batch(2)
    parts = [
        part for rank in range(processes) for part in Share.of(12, processes, rank, micro).of_step(batch)
    ]
    assert [at for part in parts for at in part] == batch
    assert len({len(part) for part in parts}) == 1


@pytest.mark.parametrize(
    ("processes", "micro", "alike", "computed"),
    [(1, None, 3, 3), (2, None, 4, 2), (4, None, 6, 3), (1, 2, 4, 2)],
)
def test_only_examples_of_one_shape_are_computed_together(processes, micro, alike, computed):
    batch = Order(40, 12, 0).batch(2)
    parts = [
        part
        for rank in range(processes)
        for part in Share.of(12, processes, rank, micro, alike).of_step(batch)
    ]
    assert {len(part) for part in parts} == {computed}
    assert all(len({at.place // alike for at in part}) == 1 for part in parts)
    assert [at.place for part in parts for at in part] == list(range(12))


@pytest.mark.parametrize(
    ("processes", "micro", "flag"), [(5, None, "batch_size=12"), (2, 4, "--micro-batch 4")]
)
def test_what_does_not_divide_is_refused(processes, micro, flag):
    with pytest.raises(SettingError, match=flag):
        Share.of(12, processes, 0, micro)
