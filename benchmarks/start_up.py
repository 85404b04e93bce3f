"""How long commands take to answer, and ``run`` to localize its first clip, in fresh processes.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/start_up.py [PROCESSES]

Medians; each command runs once before it counts, so that files are in memory. Seconds of the processor stand
beside those of the clock, as other work on the machine disturbs them less. For ``run`` this file is also the
plugin that hears of the first clip, and ends the process there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from tabulate import tabulate

from ovvol_bench import hookimpl

COMMANDS = (
    ("--help",),
    ("plugins",),
    ("show", "encoder", "videomae"),
    ("run", "--plugin", __file__),
    ("run", "--plugin", __file__, "--limit", "1"),
)
BEGUN = "OVVOL_START_UP"
STARTED, LOCALIZED = "run started", "first clip"


def note(event: str) -> None:
    """Print how long this process has been at work: name, seconds of the clock, of the processor."""
    if BEGUN in os.environ:
        sys.stdout.write(f"{event},{time.time() - float(os.environ[BEGUN])},{time.process_time()}\n")
        sys.stdout.flush()


@hookimpl
def ovvol_run_started(spec: Mapping[str, Any]) -> None:
    """Everything is built."""
    note(STARTED)


@hookimpl
def ovvol_clip_localized(localization: Any, clip: Any) -> None:
    """Nothing after the first clip counts."""
    note(LOCALIZED)
    os._exit(0)


def measure(arguments: tuple[str, ...], folder: str) -> dict[str, tuple[float, float]]:
    """Seconds of the clock and of the processor by event, of one process."""
    where = ("--output", folder, "--overwrite", "always") if arguments[0] == "run" else ()
    command = [Path(sys.executable).with_name("ovvol-bench"), *arguments, *where]
    before, begun = os.times(), time.time()
    done = subprocess.run(
        command, env={**os.environ, BEGUN: str(begun)}, check=True, capture_output=True, text=True
    )
    after, ended = os.times(), time.time()
    if arguments[0] != "run":
        processor = after.children_user + after.children_system
        return {"done": (ended - begun, processor - before.children_user - before.children_system)}
    events = [line.split(",") for line in done.stdout.splitlines()]
    return {name: (float(clock), float(processor)) for name, clock, processor in events}


def main(processes: str = "5") -> None:
    """Print the table."""
    rows = []
    for arguments in COMMANDS:
        with TemporaryDirectory() as folder:
            runs = [measure(arguments, folder) for _ in range(1 + int(processes))][1:]
        shown = " ".join(argument for argument in arguments if argument not in ("--plugin", __file__))
        for event in runs[0]:
            clock, processor = (median(run[event][i] for run in runs) for i in range(2))
            rows.append([shown, event, f"{clock:.2f}", f"{processor:.2f}"])
    sys.stdout.write(tabulate(rows, ["ovvol-bench", "until", "s", "of the processor"]) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
