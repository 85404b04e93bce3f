from __future__ import annotations

import os
import time
from functools import partial
from importlib import import_module
from threading import Thread

import pytest

from ovvol_bench.data.workers import Worker, WorkerError

serve_module = partial(partial, import_module)  # a module stands in for a decoder: its functions are methods


@pytest.fixture
def worker():
    worker = Worker(serve_module("time"), timeout=0.5, recycle_after=3)
    yield worker
    worker.close()


def test_a_call_that_hangs_ends_in_an_error_and_the_next_one_works(worker):
    with pytest.raises(WorkerError, match=r"no answer within 0\.5 s"):
        worker.call("sleep", 60)
    assert worker.call("gmtime", 0)[0] == 1970


def test_an_exception_comes_back_as_its_first_line(worker):
    with pytest.raises(WorkerError, match="ValueError: sleep length must be non-negative"):
        worker.call("sleep", -1)
    assert worker.call("sleep", 0) is None


def test_a_process_that_dies_is_replaced():
    worker = Worker(serve_module("os"), timeout=30)
    first = worker.call("getpid")
    with pytest.raises(WorkerError, match="died"):
        worker.call("abort")
    assert worker.call("getpid") not in (first, os.getpid())
    worker.close()


def test_the_process_is_recycled_after_some_calls():
    worker = Worker(serve_module("os"), timeout=30, recycle_after=2)
    pids = [worker.call("getpid") for _ in range(4)]
    worker.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_an_object_that_cannot_be_built_is_an_error():
    worker = Worker(serve_module("no_such_module"))
    with pytest.raises(WorkerError, match="did not start"):
        worker.call("anything")


def test_threads_are_served_in_the_order_they_came():
    worker = Worker(serve_module("time"), timeout=30)
    worker.call("sleep", 0)
    served = []
    threads = []
    for name in range(5):
        threads.append(Thread(target=lambda name=name: served.append((worker.call("sleep", 0.05), name)[1])))
        threads[-1].start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    worker.close()
    worker.close()
    assert served == [0, 1, 2, 3, 4]
