"""``ovvol-bench show KIND NAME``: one component and its settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from ovvol_bench.cli.common import echo_json, echo_table, format_option, plugin_option, registry_from
from ovvol_bench.registry import KINDS, Found, FoundRecipe, Setting


@click.command("show")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@plugin_option
@format_option("text", "json")
@click.pass_context
def command(context: click.Context, kind: str, name: str, style: str) -> None:
    """Show a component: what it is, where it comes from, its settings and how it is trained."""
    registry = registry_from(context)
    found, settings = registry.find(kind, name), registry.settings(kind, name)
    recipes = [registry.recipe(kind, name, recipe) for recipe in found.entry.recipes]
    if style == "json":
        echo_json(_described(found, settings, recipes))
        return
    click.echo(f"{kind} {name}: {found.entry.summary}\nFrom {found.origin}\n")
    _echo_settings(found.entry.factory, settings)
    for recipe in recipes:
        click.echo(f"\nRecipe {recipe.name}: ovvol-bench train {kind} {name} --recipe {recipe.name}\n")
        _echo_settings(recipe.factory, list(recipe.settings.values()))


def _echo_settings(factory: Callable[..., Any], settings: Sequence[Setting]) -> None:
    if documentation := _documentation(factory):
        click.echo(f"{documentation}\n")
    if settings:
        rows = [_row(setting) for setting in settings]
        if not any(row["role"] for row in rows):
            rows = [{name: cell for name, cell in row.items() if name != "role"} for row in rows]
        echo_table(rows)
    else:
        click.echo("It has no settings.")


def _documentation(factory: Callable[..., Any]) -> str:
    own = factory.func if isinstance(factory, partial) else factory
    return inspect.cleandoc(own.__doc__ or "")  # its own, not a base class's


def _described(found: Found, settings: Sequence[Setting], recipes: Sequence[FoundRecipe]) -> dict[str, Any]:
    return {
        "kind": found.kind,
        "name": found.entry.name,
        "summary": found.entry.summary,
        "origin": found.origin,
        "version": found.version,
        "documentation": _documentation(found.entry.factory),
        "settings": _rows(settings),
        "recipes": {
            recipe.name: {
                "documentation": _documentation(recipe.factory),
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
    default = setting.default
    if isinstance(default, list | tuple):
        return ",".join(map(str, default))
    return str(default).lower() if default is None or isinstance(default, bool) else str(default)
