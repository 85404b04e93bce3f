"""``ovvol-bench overlay``: pictures and videos of a run."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovvol_bench.cli.common import plugin_option, quiet_option, registry_from
from ovvol_bench.errors import DataError
from ovvol_bench.progress import LOGGER

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--clips", type=click.IntRange(min=1), default=8, show_default=True, help="Clips to draw.")
@click.option("--video/--no-video", default=True, show_default=True, help="Also write mp4s of their videos.")
@click.option(
    "--output", type=click.Path(path_type=Path), help="Folder to write to; by default RUN/overlays."
)
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, run: Path, clips: int, video: bool, output: Path | None) -> None:
    """Draw frame, slots, kept slots, named boxes and truth side by side.

    RUN is a run folder. Its dataset must still be where it was.
    """
    for path in _with_progress(_overlays(registry_from(context), run, output, clips, video)):
        click.echo(path)


def _overlays(registry: Registry, run: Path, output: Path | None, clips: int, video: bool) -> Iterator[Path]:
    from ovvol_bench.report.overlays import each_overlay
    from ovvol_bench.runs.predictions import read_predictions
    from ovvol_bench.runs.store import RunFolder

    folder = RunFolder(run.resolve())
    if not folder.spec_file.is_file():
        raise DataError(f"{run} is not a run folder: it has no {folder.spec_file.name}. See: ovvol-bench run")
    spec = folder.read_spec()
    dataset = registry.build("dataset", spec.dataset.name, spec.dataset.options)
    predictions = read_predictions(folder.predictions)
    yield from each_overlay(folder.path, dataset, predictions, output or folder.overlays, clips, video)


def _with_progress(paths: Iterator[Path]) -> Iterator[Path]:
    """The same paths, with a line of progress on terminals."""
    if not (sys.stderr and sys.stderr.isatty() and LOGGER.isEnabledFor(logging.INFO)):
        yield from paths
        return
    from rich.console import Console

    with Console(stderr=True).status("Drawing") as status:
        for count, path in enumerate(paths, start=1):
            status.update(f"Drawing: {count} files written")
            yield path
