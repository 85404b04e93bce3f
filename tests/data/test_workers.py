from __future__ import annotations

import os
import pickle
import time
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from ovvol_bench.data.workers import Worker, WorkerError, cpu_seconds

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


def pid_in_a_fork(worker: Worker) -> tuple[int, int]:
    """Process ids of the helper that a forked daemon is served by, and of the daemon."""
    context = get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send((worker.call("getpid"), os.getpid())), daemon=True)
    child.start()
    answer = ours.recv() if ours.poll(30) else (0, 0)
    child.join()
    return answer


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_daemon_has_a_helper_of_its_own():
    worker = Worker(serve_module("os"), timeout=30)
    first = worker.call("getpid")
    helper, daemon = pid_in_a_fork(worker)
    assert helper not in (0, first, daemon)
    assert worker.call("getpid") == first, "the original is left alone"
    worker.close()


def test_a_pickled_copy_has_a_helper_of_its_own():
    worker = Worker(serve_module("os"), timeout=30)
    first = worker.call("getpid")
    copy = pickle.loads(pickle.dumps(worker))
    assert copy.call("getpid") != first
    copy.close()
    assert worker.call("getpid") == first
    worker.close()


def test_what_native_code_prints_does_not_disturb_answers(capfd):
    worker = Worker(serve_module("os"), timeout=30)
    assert worker.call("system", "echo noise; echo noise >&2") == 0
    worker.close()
    assert capfd.readouterr() == ("", "")


def shared_memory() -> list[str]:
    """Memory of helpers that this process maps or holds open; it has no name, so that is all there can be."""
    if not Path("/proc/self/maps").exists():
        pytest.skip("only Linux shows what a process maps")
    links = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    return [
        line for line in [*Path("/proc/self/maps").read_text().splitlines(), *links] if "frames (del" in line
    ]


def test_large_arrays_come_back_whole_writable_and_leave_nothing():
    worker = Worker(serve_module("numpy"), timeout=30)
    counts = (3, 70_000, 99_999)
    arrays = [worker.call("arange", count) for count in counts]
    several = worker.call("indices", (200, 300), "f")
    assert all(np.array_equal(array, np.arange(count)) for count, array in zip(counts, arrays, strict=True))
    np.add(arrays[1], 1, out=arrays[1])  # they can be written to
    assert np.array_equal(several, np.indices((200, 300)))
    worker.close()
    assert arrays[2][-1] == 99_998, "memory outlives the process"
    view = arrays[1][5:]
    del arrays, several
    assert view[0] == 6, "and lasts as long as a part of it is used"
    assert shared_memory()
    del view
    assert not shared_memory()


def test_a_process_that_dies_with_large_arrays_under_way_leaves_nothing():
    worker = Worker(serve_module("numpy"), timeout=0.0)
    with pytest.raises(WorkerError, match="no answer within 0 s"):
        worker.call("ones", (3000, 3000))
    worker.close()
    assert not shared_memory()


def test_seconds_of_the_processor_include_those_of_the_helper():
    worker = Worker(serve_module("builtins"), timeout=60)
    worker.call("len", ())
    before = cpu_seconds()
    worker.call("sum", range(3_000_000))
    assert cpu_seconds() - before > 0.01
    other = Worker(serve_module("time"), timeout=60)
    other.call("gmtime", 0)
    before = cpu_seconds()
    other.call("sleep", 0.3)
    assert cpu_seconds() - before < 0.2
    worker.close()
    other.close()
