"""Processes that srun or mpirun started join one training; what is stated by halves is refused."""

import os

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.training.engine import LAUNCHERS, join_group

NAMES = {name for launcher in LAUNCHERS for name in launcher}
OURS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


@pytest.fixture
def stated(monkeypatch):
    """stated(NAME=value, ...): what `join_group` makes of an environment."""
    for name in (*NAMES, *OURS):
        monkeypatch.setenv(name, "")  # so that what it sets is undone
        monkeypatch.delenv(name)

    def join(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        join_group()
        return {name: os.environ.get(name) for name in OURS}

    return join


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_processes_of_one_machine_join(stated, launcher):
    places = [
        stated(**{launcher.rank: "1", launcher.size: "2", launcher.local_rank: "1", launcher.job: "job 7"})
    ]
    assert places[0] | {"MASTER_PORT": None} == {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": None,
    }
    assert 20_000 <= int(places[0]["MASTER_PORT"]) < 40_000


def test_one_process_is_left_alone(stated):
    assert set(stated().values()) == {None}
    assert set(stated(SLURM_PROCID="0", SLURM_NTASKS="8").values()) == {None}, "a batch script's own"


def test_what_torchrun_states_counts(stated):
    place = stated(RANK="0", WORLD_SIZE="4", SLURM_PROCID="1", SLURM_STEP_NUM_TASKS="2")
    assert (place["RANK"], place["WORLD_SIZE"]) == ("0", "4")


def test_several_machines_must_know_where_to_meet(stated):
    spread = {"SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
    with pytest.raises(SettingError, match="set MASTER_ADDR and MASTER_PORT"):
        stated(**spread)
    assert stated(**spread, MASTER_ADDR="host0", MASTER_PORT="29500")["MASTER_ADDR"] == "host0"


@pytest.mark.parametrize(
    "variables", [{"RANK": "1"}, {"WORLD_SIZE": "2"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "x"}]
)
def test_a_place_that_is_stated_by_halves(stated, variables):
    with pytest.raises(SettingError, match="expected a number from 0 and a larger one"):
        stated(**variables)
