"""``ovvol-bench show KIND NAME``: one component or preset, with its settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import click

from ovvol_bench.cli.common import (
    echo_json,
    echo_table,
    format_option,
    plugin_option,
    preset_option,
    registry_from,
    without_empty,
)
from ovvol_bench.cli.completion import complete_component
from ovvol_bench.registry import KINDS, Setting
from ovvol_bench.registry.settings import read_documentation


@click.command("show")
@click.argument("kind", type=click.Choice([*KINDS, "preset"]))
@click.argument("name", shell_complete=complete_component)
@preset_option("Whose values stand beside the defaults.")
@plugin_option
@format_option("text", "json")
@click.pass_context
def command(context: click.Context, kind: str, name: str, preset: str, style: str) -> None:
    """Show a component: what it is, where it comes from, its settings and how it is trained.

    Of a preset, all that it says. See: ovvol-bench plugins --kind preset
    """
    if kind == "preset":
        _show_preset(name, style)
        return
    from ovvol_bench.runs.selection import Kind, load_preset

    registry = registry_from(context)
    values = load_preset(preset, registry)
    chosen = values.options_for(cast(Kind, kind), name)
    found, settings = registry.find(kind, name), registry.settings(kind, name)
    recipes = [registry.recipe(kind, name, recipe) for recipe in found.recipes]
    if style == "json":
        about = {key: getattr(found.entry, key) for key in ("name", "summary", "reference")}
        of_recipes = {each.name: _described(each.factory, each.settings.values()) for each in recipes}
        about |= {"kind": found.kind, "origin": found.origin, "version": found.version}
        echo_json(about | _described(found.factory, settings) | {"recipes": of_recipes})
        return
    click.echo(f"{kind} {name}: {found.entry.summary}\nFrom {found.origin}\n")
    if found.entry.reference:
        click.echo(f"{found.entry.reference}\n")
    _echo_settings(found.factory, settings, preset, chosen)
    for recipe in recipes:
        click.echo(f"\nRecipe {recipe.name}: ovvol-bench train {kind} {name} --recipe {recipe.name}\n")
        trained = values.training.get(recipe.name)
        own = list(recipe.settings.values())
        _echo_settings(recipe.factory, own, preset, trained.recipe if trained else {})


def _show_preset(name: str, style: str) -> None:
    from ovvol_bench.runs.selection import load_preset

    plain = load_preset(name).model_dump(mode="json", exclude_defaults=True)
    if style == "json":
        echo_json(plain)
        return
    import yaml

    click.echo(f"preset {name}: ovvol-bench run --preset {name}\n")
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100), nl=False)


def _described(factory: Callable[..., Any], settings: Iterable[Setting]) -> dict[str, Any]:
    rows = [_row(setting) | {"required": setting.required} for setting in settings]
    return {"documentation": read_documentation(factory), "settings": rows}


def _echo_settings(
    factory: Callable[..., Any], settings: Sequence[Setting], preset: str, chosen: Mapping[str, Any]
) -> None:
    """Print a factory's documentation and settings, with the values of a preset that has some."""
    if documentation := read_documentation(factory):
        click.echo(f"{documentation}\n")
    if not settings:
        click.echo("It has no settings.")
        return
    rows = without_empty([_row(setting) for setting in settings], "role")
    if chosen:
        values = {name: _as_typed(value) for name, value in chosen.items()}
        rows = [row | {f"preset {preset}": values.get(row["setting"], "")} for row in rows]
    echo_table(rows, expendable=("role",), prose=("type", "default", "role"))


def _row(setting: Setting) -> dict[str, str]:
    default = "(required)" if setting.required else _as_typed(setting.default)
    role = setting.role.text if setting.role else ""
    return {"setting": setting.name, "type": setting.type, "default": default, "role": role}


def _as_typed(value: Any) -> str:
    """Write a value as one would type it after ``-o``."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
