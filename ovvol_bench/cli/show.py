"""``ovvol-bench show KIND NAME``: one component or preset, with its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import click

from ovvol_bench.cli.common import (
    echo_json,
    echo_table,
    format_option,
    plugin_option,
    preset_option,
    registry_from,
)
from ovvol_bench.cli.completion import complete_component
from ovvol_bench.registry import KINDS, Found, FoundRecipe, Setting
from ovvol_bench.registry.settings import read_documentation

PRESET = "preset"


@click.command("show")
@click.argument("kind", type=click.Choice([*KINDS, PRESET]))
@click.argument("name", shell_complete=complete_component)
@preset_option("Whose values stand beside the defaults.")
@plugin_option
@format_option("text", "json")
@click.pass_context
def command(context: click.Context, kind: str, name: str, preset: str, style: str) -> None:
    """Show a component: what it is, where it comes from, its settings and how it is trained.

    Of a preset, all that it says. See: ovvol-bench plugins --kind preset
    """
    if kind == PRESET:
        _show_preset(name, style)
        return
    from ovvol_bench.runs.selection import load_preset

    registry = registry_from(context)
    values = load_preset(preset, registry)
    chosen = values.options_for(kind, name)  # type: ignore[arg-type]  # click has checked it
    found, settings = registry.find(kind, name), registry.settings(kind, name)
    recipes = [registry.recipe(kind, name, recipe) for recipe in found.recipes]
    if style == "json":
        echo_json(_described(found, settings, recipes))
        return
    click.echo(f"{kind} {name}: {found.entry.summary}\nFrom {found.origin}\n")
    if found.entry.reference:
        click.echo(f"{found.entry.reference}\n")
    _echo_settings(found.factory, settings, preset, chosen)
    for recipe in recipes:
        click.echo(f"\nRecipe {recipe.name}: ovvol-bench train {kind} {name} --recipe {recipe.name}\n")
        trained = values.training.get(recipe.name)
        recipe_settings = list(recipe.settings.values())
        _echo_settings(recipe.factory, recipe_settings, preset, trained.recipe if trained else {})


def _show_preset(name: str, style: str) -> None:
    from ovvol_bench.runs.selection import load_preset

    plain = load_preset(name).model_dump(mode="json", exclude_defaults=True)
    if style == "json":
        echo_json(plain)
        return
    import yaml

    click.echo(f"preset {name}: ovvol-bench run --preset {name}\n")
    click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=100), nl=False)


def _echo_settings(
    factory: Callable[..., Any],
    settings: Sequence[Setting],
    preset: str = "",
    chosen: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Print a factory's documentation and settings, with the values of a preset that has some."""
    if documentation := read_documentation(factory):
        click.echo(f"{documentation}\n")
    if settings:
        rows = [_row(setting) for setting in settings]
        if not any(row["role"] for row in rows):
            rows = [{name: cell for name, cell in row.items() if name != "role"} for row in rows]
        if chosen:
            values = {name: _text(value) for name, value in chosen.items()}
            rows = [row | {f"preset {preset}": values.get(row["setting"], "")} for row in rows]
        echo_table(rows, expendable=("role",), prose=("type", "default", "role"))
    else:
        click.echo("It has no settings.")


def _described(found: Found, settings: Sequence[Setting], recipes: Sequence[FoundRecipe]) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.entry.name,
        "summary": found.entry.summary,
        "origin": found.origin,
        "version": found.version,
        "reference": found.entry.reference,
        "documentation": read_documentation(found.factory),
        "settings": _rows(settings),
        "recipes": {
            recipe.name: {
                "documentation": read_documentation(recipe.factory),
                "settings": _rows(list(recipe.settings.values())),
            }
            for recipe in recipes
        },
    }


def _rows(settings: Sequence[Setting]) -> list[dict[str, Any]]:
    return [_row(setting) | {"required": setting.required} for setting in settings]


def _row(setting: Setting) -> dict[str, str]:
    role = setting.role.text if setting.role else ""
    return {"setting": setting.name, "type": setting.type, "default": _as_typed(setting), "role": role}


def _as_typed(setting: Setting) -> str:
    """The default as one would type it after ``-o``."""
    if setting.required:
        return "(required)"
    return _text(setting.default)


def _text(value: Any) -> str:
    """A value as one would type it after ``-o``."""
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
