"""Work for fresh processes, which import it by name."""

import os

from ovvol_bench.errors import SettingError


def pid(job, tell):
    tell(f"working on {job}")
    return os.getpid()


def refuse(job, tell):
    raise SettingError(f"{job} is out of range")


def stumble(job, tell):
    raise ZeroDivisionError(job)


def die(job, tell):
    os._exit(9)
