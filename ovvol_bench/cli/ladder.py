"""``ovvol-bench ladder``: what limits a method, part by part."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovvol_bench.api.run import make_selection, run_selection
from ovvol_bench.cli.common import (
    PATH,
    RUNNING,
    echo_json,
    format_option,
    limit_option,
    plugin_option,
    quiet_option,
    registry_from,
    running_options,
    seeds_option,
    settings_option,
    terminal_width,
)
from ovvol_bench.errors import SettingError

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry
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
@limit_option()
@seeds_option(help="Runs for each seed, averaged.")
@click.option("--picture", type=PATH, help="Also draw it, as a PNG file.")
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

    registry = registry_from(context)
    results = run_selection(
        registry, _selection(registry, options), **{name: options[name] for name in RUNNING}
    )
    steps: dict[tuple[bool, bool], list[Record]] = {}
    for each in results:
        if each.error:
            raise each.error
        _, grouper, labeler = each.record.names
        steps.setdefault((grouper == ORACLE, labeler == ORACLE), []).append(each.record)
    shares = ladder(steps)
    if style == "json":
        echo_json([each.record for each in shares])
    else:
        click.echo(results.table(style=style, width=terminal_width()))
        click.echo("\n" + ladder_grid(shares).render(style, width=terminal_width()))
    if picture is not None:
        click.echo(write_ladder(shares, results[0].record, picture), err=style == "json")


def _selection(registry: Registry, options: dict[str, Any]) -> Selection:
    from ovvol_bench.runs.selection import load_preset

    preset = load_preset(options["preset"], registry)
    chosen = {kind: options[kind] or getattr(preset, kind).name for kind in ("encoder", "grouper", "labeler")}
    for kind, name in chosen.items():
        if name == ORACLE:
            raise SettingError(
                f"--{kind} oracle: the ladder adds the oracles itself; expected the method's own {kind}"
            )
    names = {kind: [name] if kind == "encoder" else [name, ORACLE] for kind, name in chosen.items()}
    asked = {name: options[name] for name in ("preset", "limit", "seeds")}
    return make_selection(registry, names, options["settings"], **asked)
