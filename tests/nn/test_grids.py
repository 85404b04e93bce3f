"""Position tables on other grids, and what is remembered of them."""

import torch
from torch import nn

from ovvol_bench.nn.grids import GridCache, resize_grid


def test_own_size_is_the_table_itself():
    table = torch.randn(2, 3, 4, 5)
    assert resize_grid(table, (3, 4)) is table


def test_resizing_keeps_constants_and_the_order_of_axes():
    rows = torch.arange(4.0)[None, :, None, None].expand(1, 4, 6, 2)
    resized = resize_grid(rows, (8, 3))
    assert resized.shape == (1, 8, 3, 2)
    assert torch.allclose(resized, resized[:, :, :1, :1].expand_as(resized))
    assert (resized[0, 1:, 0, 0] > resized[0, :-1, 0, 0]).all()


def test_a_frozen_table_is_resized_once():
    cache, table = GridCache(), torch.randn(1, 4, 4, 2)
    assert cache.resize(table, (2, 3)) is cache.resize(table, (2, 3))
    with torch.inference_mode():
        assert not cache.resize(table, (5, 5)).is_inference()


def test_a_written_table_is_resized_anew():
    cache, table = GridCache(), torch.zeros(1, 4, 4, 2)
    before = cache.resize(table, (2, 3))
    table.copy_(torch.ones_like(table))
    assert torch.allclose(before, torch.zeros(()))
    assert torch.allclose(cache.resize(table, (2, 3)), torch.ones(()))


def test_gradients_reach_a_table_in_training():
    cache, table = GridCache(), nn.Parameter(torch.zeros(1, 4, 4, 2))
    with torch.no_grad():
        cache.resize(table, (2, 3))
    cache.resize(table, (2, 3)).sum().backward()
    assert table.grad is not None


def test_old_results_are_let_go():
    cache, table = GridCache(limit=2), torch.randn(1, 4, 4, 2)
    first = cache.resize(table, (1, 1))
    cache.resize(table, (2, 1))
    cache.resize(table, (3, 1))
    assert cache.resize(table, (1, 1)) is not first
