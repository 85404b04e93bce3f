"""``ovvol-bench plugins``: what is installed, what is broken, what clashes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from ovvol_bench.cli import COMMANDS
from ovvol_bench.cli.common import echo_json, echo_table, format_option, plugin_option, registry_from
from ovvol_bench.registry import KINDS, Registry


@click.command("plugins")
@plugin_option
@click.option("--kind", type=click.Choice([*KINDS, "command", "event", "preset"]), help="Only this kind.")
@format_option("text", "json")
@click.pass_context
def command(context: click.Context, kind: str | None, style: str) -> None:
    """List the installed components and presets, and plugins that failed to load."""
    registry = registry_from(context)
    columns = ("kind", "name", "origin", "version", "summary")
    rows = [dict(zip(columns, row, strict=True)) for row in _rows(registry) if kind in (None, row[0])]
    broken = [{"origin": origin, "reason": str(error)} for origin, error in registry.broken]
    unusable = registry.unusable(sound="ovvol-bench ")
    broken += [{"origin": origin, "reason": f"{origin}: {error}"} for origin, error in unusable]
    conflicts = [str(conflict) for conflict in registry.conflicts]
    for name in (each for each in registry.names("command") if each in COMMANDS):
        origin = registry.find("command", name).origin
        conflicts.append(f"command '{name}' is registered by ovvol-bench and by {origin}")
    if style == "json":
        echo_json({"components": rows, "broken": broken, "conflicts": conflicts})
        return
    echo_table(rows, expendable=("version", "origin"), prose=("summary",))
    for heading, problems in (
        ("Broken, and not used:", [each["reason"] for each in broken]),
        ("Taken more than once, and not usable by that name:", conflicts),
    ):
        if problems:
            click.echo("\n" + "\n".join([heading, *(f"  {problem}" for problem in problems)]))


def _rows(registry: Registry) -> Iterator[tuple[Any, ...]]:
    from ovvol_bench.runs.selection import load_preset, preset_names

    for kind in (*KINDS, "command"):
        for found in (registry.find(kind, name) for name in registry.names(kind)):
            yield kind, found.entry.name, found.origin, found.version, found.entry.summary
    for hook, origin in registry.listeners:
        yield "event", hook, origin, None, None
    for name in preset_names():
        yield "preset", name, "ovvol-bench", None, load_preset(name).description
