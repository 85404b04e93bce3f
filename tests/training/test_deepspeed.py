"""What is read before DeepSpeed unpickles a checkpoint; DeepSpeed itself isn't needed for that."""

import pickle
from enum import IntEnum

import pytest
import torch

from ovvol_bench.training.deepspeed import refuse_objects


class Stage(IntEnum):
    """Stands for one of DeepSpeed's own records."""

    TWO = 2


class Hostile:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def state(tmp_path):
    """Writes a file of a checkpoint, as two processes share a folder."""
    folder = tmp_path / "checkpoint"
    (folder / "state").mkdir(parents=True)

    def write(content, name="zero_pp_rank_1_mp_rank_00_optim_states.pt"):
        torch.save({"partition": torch.zeros(3)}, folder / "state" / "mp_rank_00_model_states.pt")
        torch.save(content, folder / "state" / name)
        return folder

    return write


@pytest.mark.parametrize("place", [lambda bad: bad, lambda bad: {"optimizer": [torch.zeros(2), bad]}])
def test_an_object_is_refused_and_not_run(tmp_path, state, place):
    mark = tmp_path / "was_run"
    with pytest.raises(pickle.UnpicklingError, match="open"):
        refuse_objects(state(place(Hostile(mark))), [Stage])
    assert not mark.exists()


def test_a_bare_pickle_is_refused_and_not_run(tmp_path, state):
    folder, mark = state({}), tmp_path / "was_run"
    (folder / "state" / "more.pt").write_bytes(pickle.dumps(Hostile(mark), protocol=2))
    with pytest.raises(pickle.UnpicklingError):
        refuse_objects(folder, [Stage])
    assert not mark.exists()


def test_plain_values_and_named_records_are_read(state):
    folder = state({"stage": Stage.TWO, "exp_avg": torch.ones(2), "step": 3})
    refuse_objects(folder, [Stage])
    with pytest.raises(pickle.UnpicklingError, match="Stage"):
        refuse_objects(folder, [])
