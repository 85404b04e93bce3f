from __future__ import annotations

import math
import os
import time
from multiprocessing import active_children

import pytest

from ovvol_bench.errors import DataError
from ovvol_bench.parallel import in_processes

# Work is taken from the standard library: processes import it by name, and tests are no package.


@pytest.mark.parametrize("workers", [1, 2])
def test_all_jobs_are_done(workers):
    assert sorted(in_processes(math.isqrt, [0, 1, 4, 9, 16], workers)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_ends_everything(workers):
    with pytest.raises(ValueError, match="nonnegative"):
        list(in_processes(math.isqrt, [4, -1, *range(20)], workers))
    assert active_children() == []


def test_a_killed_process_is_one_message():
    with pytest.raises(DataError, match="fewer --workers"):
        list(in_processes(os._exit, [1, 1, 1], 2))
    assert active_children() == []


def test_giving_up_ends_processes_that_work():
    results = in_processes(time.sleep, [0, 600, 600], 2)
    next(results)
    results.close()
    assert active_children() == []
