"""``ovvol-bench overlay``: pictures and videos of a run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovvol_bench.cli.common import PATH, plugin_option, quiet_option, registry_from, run_folder
from ovvol_bench.progress import LOGGER

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry


@click.command()
@click.argument("run", type=PATH)
@click.option("--clips", type=click.IntRange(min=1), default=8, help="Clips to draw.")
@click.option("--video/--no-video", default=True, help="Also write mp4s of their videos.")
@click.option("--output", type=PATH, help="Folder to write to; by default RUN/overlays.")
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, run: Path, clips: int, video: bool, output: Path | None) -> None:
    """Draw frame, slots, kept slots, named boxes and truth side by side.

    RUN is a run folder. Its dataset must still be where it was.
    """
    paths = overlays_of(registry_from(context), run, output, clips, video)
    if not (sys.stderr and sys.stderr.isatty() and LOGGER.isEnabledFor(logging.INFO)):
        for path in paths:
            click.echo(path)
        return
    from rich.console import Console

    with Console(stderr=True).status("Drawing") as status:
        for count, path in enumerate(paths, start=1):
            status.update(f"Drawing: {count} files written")
            click.echo(path)


def overlays_of(
    registry: Registry, run: Path, output: Path | None = None, clips: int = 8, video: bool = True
) -> Iterator[Path]:
    """Draw a run, file by file.

    Args:
        registry: builds the dataset.
        run: its folder.
        output: folder to write to; None: one in the run's.
        clips: how many to draw.
        video: also write videos.
    """
    from ovvol_bench.report.overlays import each_overlay
    from ovvol_bench.runs.predictions import read_predictions

    folder = run_folder(run.resolve())
    spec = folder.read_spec()
    dataset = registry.build("dataset", spec.dataset.name, spec.dataset.options)
    predictions = read_predictions(folder.predictions)
    yield from each_overlay(folder.path, dataset, predictions, output or folder.overlays, clips, video)
