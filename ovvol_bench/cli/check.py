"""``ovvol-bench check KIND NAME``: does a component keep its contract?"""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

import click

from ovvol_bench.cli.common import (
    Settings,
    echo_json,
    echo_table,
    format_option,
    plugin_option,
    preset_option,
    registry_from,
    settings_option,
)
from ovvol_bench.errors import SettingError
from ovvol_bench.registry import KINDS


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@settings_option
@preset_option("Whose settings for the component count.")
@format_option("text", "json")
@plugin_option
@click.pass_context
def command(
    context: click.Context, kind: str, name: str, settings: Settings, preset: str, style: str
) -> None:
    """Hold a component to the contract of its kind: each promise held, broken, or not checked here.

    Shapes, odd sizes, single clips, determinism, independence of the batch, inputs left alone, NaN, and a GPU
    where there is one. The exit code is 1 if a promise is broken.
    """
    from ovvol_bench.runs.selection import Kind, load_preset
    from ovvol_bench.testing.registered import check_registered

    foreign = sorted(settings.keys() - {kind})
    if foreign:
        raise SettingError(
            f"-o {foreign[0]}.*: only settings of the {kind} count here, as in -o {kind}.NAME=VALUE"
        )
    registry = registry_from(context)
    options = load_preset(preset, registry).options_for(cast(Kind, kind), name) | settings.get(kind, {})
    report = check_registered(registry, kind, name, options)
    if style == "json":
        echo_json({"component": report.component, "findings": [asdict(each) for each in report.findings]})
    else:
        click.echo(f"{report.component}\n")
        echo_table([asdict(finding) for finding in report.findings], prose=("promise", "reason"))
    if report.broken:
        context.exit(1)
