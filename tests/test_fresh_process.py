import os
from multiprocessing import active_children

import child_work
import pytest

from ovvol_bench.parallel import ChildError, in_fresh_process


def test_the_work_is_done_elsewhere_and_tells_of_it():
    told = []
    first = in_fresh_process(child_work.pid, "a job", told.append)
    assert first not in (os.getpid(), in_fresh_process(child_work.pid, "a job", told.append))
    assert told == ["working on a job"] * 2
    assert active_children() == []


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (child_work.refuse, "^7 is out of range$"),
        (child_work.stumble, "^ZeroDivisionError: 7$"),
        (child_work.die, r"died \(exit code 9\), perhaps because memory ran out"),
    ],
)
def test_what_goes_wrong_is_one_message(work, message):
    with pytest.raises(ChildError, match=message):
        in_fresh_process(work, 7, print)
    assert active_children() == []
