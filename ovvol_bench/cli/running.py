"""Options of the commands that run combinations: where and how."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import click

from ovvol_bench.api.run import Device

RUNNING = ("output", "device", "batch_size", "workers")
"""Keywords of ``api.run.run_selection`` that ``running_options`` are for."""


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--output``, ``--device``, ``--batch-size`` and ``--workers``."""
    options = (
        click.option(
            "--output",
            type=click.Path(path_type=Path),
            default=Path("runs"),
            show_default=True,
            help="Where run folders go.",
        ),
        click.option("--device", type=click.Choice(get_args(Device)), default="auto", show_default=True),
        click.option(
            "--batch-size", type=click.IntRange(1, 4096), help="Clips at a time; by default as many as fit."
        ),
        click.option(
            "--workers",
            type=click.IntRange(1, 1024),
            metavar="N",
            help="Threads that read frames ahead; by default one a processor, up to 16.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
