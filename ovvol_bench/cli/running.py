"""What commands that run combinations share: where and how, and a bar of progress."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry
    from ovvol_bench.runs.selection import Selection
    from ovvol_bench.runs.session import Finished


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
        click.option(
            "--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True
        ),
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


def run_selection(
    registry: Registry, selection: Selection, options: dict[str, Any], **others: Any
) -> list[Finished]:
    """Run a selection under the options of ``running_options``.

    Args:
        registry: builds the components.
        selection: what to run.
        options: of the command line.
        others: further fields of ``Conduct``.
    """
    from ovvol_bench.data.memory import keep_freed_memory
    from ovvol_bench.progress import progress_bars
    from ovvol_bench.runs.devices import pick_device
    from ovvol_bench.runs.session import Conduct, run_all

    keep_freed_memory()
    same = ("output", "batch_size", "workers")
    with progress_bars("clips") as progress:
        conduct = Conduct(
            device=pick_device(options["device"]),
            progress=progress,
            **{name: options[name] for name in same},
            **others,
        )
        return run_all(selection, registry, conduct)
