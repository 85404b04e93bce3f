"""``ovvol-bench ladder``: what limits a method, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovvol_bench.api.run import run_selection
from ovvol_bench.cli.common import (
    echo_json,
    format_option,
    plugin_option,
    quiet_option,
    registry_from,
    settings_option,
    terminal_width,
)
from ovvol_bench.cli.run import seeds_option
from ovvol_bench.cli.running import RUNNING, running_options
from ovvol_bench.errors import SettingError

if TYPE_CHECKING:
    from ovvol_bench.api.result import Results
    from ovvol_bench.results.schema import Record
    from ovvol_bench.runs.selection import Selection

ORACLE = "oracle"


@click.command()
@click.argument("preset", default="shapes")
@click.option("--encoder", metavar="NAME", help="By default the preset's, as the next two.")
@click.option("--grouper", metavar="NAME")
@click.option("--labeler", metavar="NAME")
@settings_option
@running_options
@click.option("--limit", type=click.IntRange(min=1), metavar="CLIPS", help="Only the first so many clips.")
@seeds_option("Runs for each seed, averaged.")
@click.option("--picture", type=click.Path(path_type=Path), help="Also draw it, as a PNG file.")
@format_option("text", "markdown", "json")
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, /, style: str, picture: Path | None, **options: Any) -> None:
    """Run PRESET, and in the same pass with true groups, true names and both.

    Prints the four runs, and how much of each number's way to 100% the patch grid loses, encoder and
    grouper, and naming. The dataset must have truth.
    """
    from ovvol_bench.report.ladder import ladder, ladder_grid, write_ladder

    selection = _selection(context, options)
    results = run_selection(registry_from(context), selection, **{name: options[name] for name in RUNNING})
    for each in results:
        if each.error:
            raise each.error
    shares = ladder(_steps(results))
    if style == "json":
        echo_json([each.record for each in shares])
    else:
        click.echo(results.table(style=style, width=terminal_width()))
        click.echo("\n" + ladder_grid(shares).render(style, width=terminal_width()))
    if picture is not None:
        click.echo(write_ladder(shares, results[0].record, picture), err=style == "json")


def _selection(context: click.Context, options: dict[str, Any]) -> Selection:
    from ovvol_bench.runs.selection import load_preset, select

    preset = load_preset(options["preset"], registry_from(context))
    chosen = {kind: options[kind] or getattr(preset, kind).name for kind in ("encoder", "grouper", "labeler")}
    for kind, name in chosen.items():
        if name == ORACLE:
            raise SettingError(
                f"--{kind} oracle: the ladder adds the oracles itself; expected the method's own {kind}"
            )
    names = {kind: [name] if kind == "encoder" else [name, ORACLE] for kind, name in chosen.items()}
    fields = {field: options[field] for field in ("limit", "seeds")}
    return select(preset, registry_from(context), names, options["settings"], **fields)  # type: ignore[arg-type]


def _steps(results: Results) -> dict[tuple[bool, bool], list[Record]]:
    """Results by whether groups and names are true."""
    steps: dict[tuple[bool, bool], list[Record]] = {}
    for each in results:
        _, grouper, labeler = each.record.names
        steps.setdefault((grouper == ORACLE, labeler == ORACLE), []).append(each.record)
    return steps
