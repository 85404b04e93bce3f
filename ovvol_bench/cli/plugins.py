"""``ovvol-bench plugins``: what is installed, what is broken, what clashes."""

from __future__ import annotations

from typing import Any

import click

from ovvol_bench.cli import COMMANDS
from ovvol_bench.cli.common import echo_json, echo_table, format_option, plugin_option, registry_from
from ovvol_bench.registry import KINDS, Registry

Row = dict[str, Any]


@click.command("plugins")
@plugin_option
@click.option("--kind", type=click.Choice([*KINDS, "command", "event", "preset"]), help="Only this kind.")
@format_option("text", "json")
@click.pass_context
def command(context: click.Context, kind: str | None, style: str) -> None:
    """List the installed components and presets, and plugins that failed to load."""
    registry = registry_from(context)
    components = [row for each in (*KINDS, "command") for row in _rows(registry, each)]
    components += [*_event_rows(registry), *_preset_rows()]
    components = [row for row in components if kind in (None, row["kind"])]
    broken = [{"origin": origin, "reason": str(error)} for origin, error in registry.broken]
    unusable = registry.unusable(sound="ovvol-bench ")
    broken += [{"origin": origin, "reason": f"{origin}: {error}"} for origin, error in unusable]
    conflicts = [str(conflict) for conflict in registry.conflicts] + _shadowed(registry)
    if style == "json":
        echo_json({"components": components, "broken": broken, "conflicts": conflicts})
        return
    echo_table(components, expendable=("version", "origin"), prose=("summary",))
    _echo_problems("Broken, and not used:", [item["reason"] for item in broken])
    _echo_problems("Taken more than once, and not usable by that name:", conflicts)


def _rows(registry: Registry, kind: str) -> list[Row]:
    found = [registry.find(kind, name) for name in registry.names(kind)]
    return [_row(kind, item.entry.name, item.origin, item.version, item.entry.summary) for item in found]


def _event_rows(registry: Registry) -> list[Row]:
    return [_row("event", hook, origin, None, None) for hook, origin in registry.listeners]


def _preset_rows() -> list[Row]:
    from ovvol_bench.runs.selection import load_preset, preset_names

    presets = {name: load_preset(name) for name in preset_names()}
    return [_row("preset", name, "ovvol-bench", None, each.description) for name, each in presets.items()]


def _row(kind: str, name: str, origin: str, version: str | None, summary: str | None) -> Row:
    return {"kind": kind, "name": name, "origin": origin, "version": version, "summary": summary}


def _shadowed(registry: Registry) -> list[str]:
    own = [name for name in registry.names("command") if name in COMMANDS]
    return [f"command '{name}' is registered by ovvol-bench and by {_origin(registry, name)}" for name in own]


def _origin(registry: Registry, name: str) -> str:
    return registry.find("command", name).origin


def _echo_problems(heading: str, problems: list[str]) -> None:
    if problems:
        click.echo("\n" + "\n".join([heading, *(f"  {problem}" for problem in problems)]))
