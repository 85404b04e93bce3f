from __future__ import annotations

import os
import pickle
import time
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from threading import Thread

import numpy as np
import pytest

from ovvol_bench.data.helper_process import HelperError, HelperProcess, cpu_seconds

serve_module = partial(partial, import_module)  # a module stands in for a decoder: its functions are methods


@pytest.fixture
def process():
    process = HelperProcess(serve_module("time"), timeout=0.5, recycle_after=3)
    yield process
    process.close()


def test_a_call_that_hangs_ends_in_an_error_and_the_next_one_works(process):
    with pytest.raises(HelperError, match=r"no answer within 0\.5 s"):
        process.call("sleep", 60)
    assert process.call("gmtime", 0)[0] == 1970


def test_an_exception_comes_back_as_its_first_line(process):
    with pytest.raises(HelperError, match="ValueError: sleep length must be non-negative"):
        process.call("sleep", -1)
    assert process.call("sleep", 0) is None


def test_a_process_that_dies_is_replaced():
    process = HelperProcess(serve_module("os"), timeout=30)
    first = process.call("getpid")
    with pytest.raises(HelperError, match="died"):
        process.call("abort")
    assert process.call("getpid") not in (first, os.getpid())
    process.close()


def test_the_process_is_recycled_after_some_calls():
    process = HelperProcess(serve_module("os"), timeout=30, recycle_after=2)
    pids = [process.call("getpid") for _ in range(4)]
    process.close()
    assert pids[0] == pids[1] != pids[2] == pids[3]


def test_an_object_that_cannot_be_built_is_an_error():
    process = HelperProcess(serve_module("no_such_module"))
    with pytest.raises(HelperError, match="did not start"):
        process.call("anything")


def test_threads_are_served_in_the_order_they_came():
    process = HelperProcess(serve_module("time"), timeout=30)
    process.call("sleep", 0)
    served = []
    threads = []
    for name in range(5):
        threads.append(Thread(target=lambda name=name: served.append((process.call("sleep", 0.05), name)[1])))
        threads[-1].start()
        time.sleep(0.01)
    for thread in threads:
        thread.join()
    process.close()
    process.close()
    assert served == [0, 1, 2, 3, 4]


def pid_in_a_fork(process: HelperProcess) -> tuple[int, int]:
    """Process ids of the helper that a forked daemon is served by, and of the daemon."""
    context = get_context("fork")
    ours, theirs = context.Pipe()
    child = context.Process(target=lambda: theirs.send((process.call("getpid"), os.getpid())), daemon=True)
    child.start()
    answer = ours.recv() if ours.poll(30) else (0, 0)
    child.join()
    return answer


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_daemon_has_a_helper_of_its_own():
    process = HelperProcess(serve_module("os"), timeout=30)
    first = process.call("getpid")
    helper, daemon = pid_in_a_fork(process)
    assert helper not in (0, first, daemon)
    assert process.call("getpid") == first, "the original is left alone"
    process.close()


def test_a_pickled_copy_has_a_helper_of_its_own():
    process = HelperProcess(serve_module("os"), timeout=30)
    first = process.call("getpid")
    copy = pickle.loads(pickle.dumps(process))
    assert copy.call("getpid") != first
    copy.close()
    assert process.call("getpid") == first
    process.close()


def test_what_native_code_prints_does_not_disturb_answers(capfd):
    process = HelperProcess(serve_module("os"), timeout=30)
    assert process.call("system", "echo noise; echo noise >&2") == 0
    process.close()
    assert capfd.readouterr() == ("", "")


def test_large_arrays_come_back_whole_and_writable():
    process = HelperProcess(serve_module("numpy"), timeout=30)
    counts = (3, 70_000, 99_999)
    arrays = [process.call("arange", count) for count in counts]
    several = process.call("indices", (200, 300), "f")
    assert all(np.array_equal(array, np.arange(count)) for count, array in zip(counts, arrays, strict=True))
    np.add(arrays[1], 1, out=arrays[1])
    assert np.array_equal(several, np.indices((200, 300)))
    process.close()
    assert arrays[2][-1] == 99_998, "arrays outlive the process"


def test_a_large_answer_that_is_late_does_not_come_with_the_next_call():
    process = HelperProcess(serve_module("numpy"), timeout=0.0)
    with pytest.raises(HelperError, match="no answer within 0 s"):
        process.call("ones", (3000, 3000))
    process._timeout = 30
    assert process.call("arange", 2).tolist() == [0, 1]
    process.close()


def test_cpu_seconds_include_those_of_the_helper():
    process = HelperProcess(serve_module("builtins"), timeout=60)
    process.call("len", ())
    before = cpu_seconds()
    process.call("sum", range(3_000_000))
    assert cpu_seconds() - before > 0.01
    other = HelperProcess(serve_module("time"), timeout=60)
    other.call("gmtime", 0)
    before = cpu_seconds()
    other.call("sleep", 0.3)
    assert cpu_seconds() - before < 0.2
    process.close()
    other.close()
