"""``ovvol-bench check KIND NAME``: does a component keep its contract?"""

from __future__ import annotations

from dataclasses import asdict
from typing import cast

import click

from ovvol_bench.cli.common import (
    Settings,
    check_kinds,
    echo_json,
    echo_table,
    format_option,
    option_settings,
    plugin_option,
    preset_option,
    registry_from,
)
from ovvol_bench.registry import KINDS


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@option_settings("Set a setting of the component, or with --recipe of its recipe", (*KINDS, "recipe"))
@click.option(
    "--recipe",
    is_flag=False,
    flag_value="",
    metavar="[NAME]",
    help="Check how it is trained instead: steps, validation, saving, going on after a stop.",
)
@preset_option("Whose settings for the component count.")
@format_option("text", "json")
@plugin_option
@click.pass_context
def command(
    context: click.Context, /, kind: str, name: str, settings: Settings, recipe: str | None, **shown: str
) -> None:
    """Hold a component to the contract of its kind: each promise held, broken, or not checked here.

    Shapes, odd sizes, single clips, determinism, independence of the batch, inputs left alone, NaN, and a GPU
    where there is one. The exit code is 1 if a promise is broken.
    """
    from ovvol_bench.runs.selection import Kind, load_preset

    check_kinds(settings, kind, *(() if recipe is None else ("recipe",)))
    registry = registry_from(context)
    chosen = load_preset(shown["preset"], registry)
    if recipe is None:
        from ovvol_bench.testing import check_registered

        options = chosen.options_for(cast(Kind, kind), name) | settings.get(kind, {})
        report = check_registered(registry, kind, name, options)
    else:
        from ovvol_bench.testing.recipes import check_recipe

        report = check_recipe(registry, kind, name, recipe or None, chosen, settings)
    findings = [asdict(each) for each in report.findings]
    if shown["style"] == "json":
        echo_json({"component": report.component, "findings": findings})
    else:
        click.echo(f"{report.component}\n")
        echo_table(findings, prose=("promise", "reason"))
    if report.broken:
        context.exit(1)
