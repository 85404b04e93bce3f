"""A plugin's hooks and entries, looked at before they count: strict where pluggy is silent."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

import pluggy

from ovvol_bench.errors import PluginError, SettingError, nearest
from ovvol_bench.registry import hookspecs
from ovvol_bench.registry.discovery import Source
from ovvol_bench.registry.entries import KINDS, TRAINABLE, Entry, Found
from ovvol_bench.registry.roles import FILLED, Filled
from ovvol_bench.registry.settings import read_settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def new_manager() -> pluggy.PluginManager:
    """A plugin manager that knows the hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def listed_by(plugin: Any, source: Source) -> list[Found]:
    """Everything that a plugin registers: components, and commands under the kind ``command``.

    Args:
        plugin: the loaded module.
        source: where it came from.

    Raises:
        PluginError: if a hook is misspelt or unmarked, or an entry is not valid. What the plugin's own
            code raises while it lists its entries comes through as it is.
        pluggy.PluginValidationError: if a hook takes parameters that it doesn't have.
    """
    manager = new_manager()  # one of its own, so that a plugin that fails leaves no trace
    _check_names(manager, plugin)
    manager.register(plugin)
    found = [
        Found(kind, entry, source.origin, source.version, source.code)
        for kind in (*KINDS, "command")
        for implementation in getattr(manager.hook, f"ovvol_{kind}s").get_hookimpls()
        for entry in _entries(kind, implementation.function)
    ]
    _check_distinct(found)
    return found


def _check_names(manager: pluggy.PluginManager, plugin: Any) -> None:
    known = [name for name in dir(hookspecs) if manager.parse_hookspec_opts(hookspecs, name) is not None]
    marked = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    hooks = [name for name in marked if marked[name] is not None or _looks_like_hook(plugin, name)]
    for name in hooks:
        options = marked[name]
        hook = (options and options.get("specname")) or name
        if hook not in known:
            raise PluginError(f"'{hook}' is no hook.{nearest(hook, known)} Hooks: {', '.join(known)}.")
        if options is None:
            raise PluginError(f"'{hook}' is not marked as a hook: put @hookimpl above it.")
    if not hooks:
        raise PluginError(f"it implements no hook. Hooks: {', '.join(known)}.")


def _looks_like_hook(plugin: Any, name: str) -> bool:
    return name.startswith("ovvol_") and inspect.isroutine(getattr(plugin, name))


def _entries(kind: str, hook: Any) -> Iterator[Entry]:
    listed = hook()
    if not isinstance(listed, Iterable):
        raise PluginError(f"ovvol_{kind}s returned {listed!r}; it must yield its {kind}s.")
    for item in listed:  # a generator hook runs here, and not before
        yield _command_entry(item) if kind == "command" else check_entry(kind, item)


def check_entry(kind: str, item: object) -> Entry:
    """Refuse what is no valid entry of a kind.

    Raises:
        PluginError: says why.
    """
    if not isinstance(item, Entry):
        raise PluginError(
            f"ovvol_{kind}s yielded {item!r}; expected Entry(name, factory, summary) from ovvol_bench."
        )
    if not isinstance(item.name, str) or not _NAME.fullmatch(item.name):
        raise PluginError(
            f"ovvol_{kind}s yielded the name {item.name!r}; expected letters, digits, '_', '-' and '.' only, "
            "as names are typed and become folders."
        )
    if not callable(item.factory):
        raise PluginError(f"{kind} '{item.name}': the factory is {item.factory!r}; expected a function.")
    try:
        settings = {setting.name: setting for setting in read_settings(item.factory)}
    except PluginError as error:
        raise PluginError(f"{kind} '{item.name}': {error}") from error
    for setting in settings.values():
        if isinstance(setting.role, Filled) and not isinstance(setting.role, FILLED.get(kind, ())):
            raise PluginError(
                f"{kind} '{item.name}': setting '{setting.name}' {setting.role.text}, which no {kind} is"
                " told. Give it a plain type."
            )
    if item.argument is not None and item.argument not in settings:
        raise PluginError(f"{kind} '{item.name}': its argument '{item.argument}' is none of its settings.")
    if unknown := sorted(item.training.keys() - settings.keys()):
        raise PluginError(
            f"{kind} '{item.name}': training names '{unknown[0]}', which is none of its settings."
        )
    _check_recipes(kind, item)
    return item


def check_argument(kind: str, entry: Entry, value: str) -> None:
    """Refuse what stands after the colon of NAME:VALUE if the component takes nothing or it is no name.

    Raises:
        SettingError: says which.
    """
    if entry.argument is None:
        raise SettingError(f"{kind} '{entry.name}' takes nothing after a colon, got ':{value}'.")
    if not _NAME.fullmatch(value):
        raise SettingError(
            f"{kind} '{entry.name}:{value}': expected letters, digits, '_', '-' and '.' after the colon, as"
            f" names become folders. Set anything else with -o {kind}.{entry.argument}=VALUE."
        )


def _check_recipes(kind: str, entry: Entry) -> None:
    """A recipe takes what it is made for as its first parameter, then settings."""
    if entry.recipes and kind not in TRAINABLE:
        raise PluginError(f"{kind} '{entry.name}' has recipes; only {', '.join(TRAINABLE)}s are trained.")
    for name, factory in entry.recipes.items():
        if not _NAME.fullmatch(name) or not callable(factory):
            raise PluginError(f"{kind} '{entry.name}': recipe {name!r}: expected a name and a function.")
        try:
            read_settings(factory, given=1)
        except PluginError as error:
            raise PluginError(f"{kind} '{entry.name}': recipe '{name}': {error}") from error


def _command_entry(item: object) -> Entry:
    import click

    if not isinstance(item, click.Command) or not item.name:
        raise PluginError(f"ovvol_commands yielded {item!r}; expected a click command with a name.")
    return Entry(item.name, lambda: item, item.get_short_help_str())


def _check_distinct(found: list[Found]) -> None:
    keys = [(item.kind, item.entry.name) for item in found]
    for kind, name in keys:
        if keys.count((kind, name)) > 1:
            raise PluginError(f"it registers {kind} '{name}' twice.")
