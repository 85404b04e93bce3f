"""Processes of a training that something other than torchrun started: they join, and never mix."""

from __future__ import annotations

import os
import zlib
from typing import NamedTuple

from ovvol_bench.errors import SettingError


class Launcher(NamedTuple):
    """Environment variables by which a launcher states a process's place.

    Attributes:
        rank: of the process, from 0.
        size: number of processes.
        local_rank: among those of its machine.
        local_size: how many its machine has.
        job: the same in all processes of a start, and in no other's.
    """

    rank: str
    size: str
    local_rank: str
    local_size: str
    job: str


LAUNCHERS = (
    # Of the step, which srun makes: a batch script's own process has SLURM_NTASKS as well, and is alone.
    Launcher(
        "SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_STEP_TASKS_PER_NODE", "SLURM_JOB_ID"
    ),
    Launcher(
        "OMPI_COMM_WORLD_RANK",
        "OMPI_COMM_WORLD_SIZE",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "OMPI_COMM_WORLD_LOCAL_SIZE",
        "PMIX_NAMESPACE",
    ),
    Launcher("PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID", "MPI_LOCALNRANKS", "PMI_JOBID"),  # MPICH, Intel
)
_PORTS = range(20_000, 40_000)


def join_group() -> None:
    """Let PyTorch find the processes that Slurm's srun or an mpirun started beside this one.

    What torchrun states is left as it is. On several machines MASTER_ADDR and MASTER_PORT must be given.

    Raises:
        SettingError: if the place of this process, or where to meet, is not stated.
    """
    found = os.environ
    if "RANK" in found or "WORLD_SIZE" in found:
        _check_place("RANK", "WORLD_SIZE")
        return
    launcher = next((each for each in LAUNCHERS if found.get(each.size, "1") != "1"), None)
    if launcher is None:
        return
    rank, size = _check_place(launcher.rank, launcher.size)
    if "MASTER_ADDR" not in found and found.get(launcher.local_size, str(size)) != str(size):
        raise SettingError(
            f"{launcher.size}={size} processes on several machines: set MASTER_ADDR and MASTER_PORT to where "
            "the first one is reached, or start the training with torchrun."
        )
    job = found.get(launcher.job) or str(os.getppid())
    stated = {
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": found.get(launcher.local_rank, str(rank)),
        "LOCAL_WORLD_SIZE": found.get(launcher.local_size, str(size)),
    }
    found.update(stated)
    found.setdefault("MASTER_ADDR", "127.0.0.1")
    found.setdefault("MASTER_PORT", str(_PORTS[zlib.crc32(job.encode()) % len(_PORTS)]))


def _check_place(rank: str, size: str) -> tuple[int, int]:
    """Rank and number of processes that two variables state."""
    given = os.environ.get(rank, ""), os.environ.get(size, "")
    if all(text.isdecimal() for text in given) and int(given[0]) < int(given[1]):
        return int(given[0]), int(given[1])
    raise SettingError(
        f"{rank}={given[0] or 'not set'}, {size}={given[1] or 'not set'} in the environment: expected a "
        "number from 0 and a larger one. Start the processes with torchrun, or unset both to train with one."
    )
