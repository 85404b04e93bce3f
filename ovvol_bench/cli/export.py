"""``ovvol-bench export``: a run's predictions in the formats of other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ovvol_bench.cli.common import PATH, choice_option, plugin_option, registry_from, run_folder


@click.command()
@click.argument("run", type=click.Path(exists=True, path_type=Path))
@click.argument("out", type=PATH)
@click.option(
    "--format",
    "name",
    required=True,
    metavar="NAME",
    help="coco, coco-vid, youtube-vis, vid-devkit or mot; see docs/formats.md.",
)
@choice_option("--labels", ("top1", "all"), "Each box under its best class, or once for every class.")
@click.option("--masks", is_flag=True, help="Also write masks, nearest neighbour at the frame's size.")
@click.option(
    "--complete/--no-complete",
    default=None,
    help="Also what vid-reference alone counts: class 0, and segments that their frame doesn't show, as "
    "boxes without width and height. By default with --labels all, where the format can.",
)
@click.option("--link", is_flag=True, help="Join the tracks of consecutive clips by class and overlap.")
@plugin_option
@click.pass_context
def command(context: click.Context, /, run: Path, out: Path, name: str, **options: Any) -> None:
    """Write a run's predictions to OUT, a file, or for mot a folder.

    RUN is a run folder. A segment of a clip is a track; with --link it goes on in the next clip.
    """
    from ovvol_bench.formats import format_of
    from ovvol_bench.runs.export import Export, export_run

    export = Export(format_of(name), **options)
    count, lost = export_run(run_folder(run), registry_from(context), export, out)
    click.echo(f"{out}: {count} detections, {name}")
    for what in lost:
        click.echo(f"not in the file: {what}", err=True)
