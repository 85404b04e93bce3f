"""Checks of a plugin's hooks and entries before they count: strict where pluggy is silent."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pluggy

from ovvol_bench.errors import PluginError, SettingError, nearest
from ovvol_bench.registry import hookspecs
from ovvol_bench.registry.discovery import Source
from ovvol_bench.registry.entries import KINDS, TRAINABLE, Entry, Found
from ovvol_bench.registry.lazy import Lazy
from ovvol_bench.registry.roles import FILLED, Filled
from ovvol_bench.registry.settings import Setting, read_settings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def new_manager() -> pluggy.PluginManager:
    """Make a plugin manager that knows the hooks and no plugin."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def listed_by(plugin: Any, source: Source) -> list[Found]:
    """List all that a plugin registers: components, and commands under the kind ``command``.

    Args:
        plugin: the loaded module.
        source: where it came from.

    Raises:
        PluginError: if a hook is misspelt or unmarked, or an entry is not valid. Errors of the plugin's own
            code while it lists its entries come through as they are.
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
    counts = Counter((item.kind, item.entry.name) for item in found)
    for (kind, name), count in counts.items():
        if count > 1:
            raise PluginError(f"it registers {kind} '{name}' twice.")
    for item in found:
        if item.kind != "command":
            _check_factories(item)
    return found


def _check_names(manager: pluggy.PluginManager, plugin: Any) -> None:
    known = [name for name in dir(hookspecs) if manager.parse_hookspec_opts(hookspecs, name) is not None]
    marked = {name: manager.parse_hookimpl_opts(plugin, name) for name in dir(plugin)}
    # A function of such a name was meant as a hook, marked or not.
    meant = [
        name for name in marked if name.startswith("ovvol_") and inspect.isroutine(getattr(plugin, name))
    ]
    hooks = [name for name in marked if marked[name] is not None or name in meant]
    for name in hooks:
        options = marked[name]
        hook = (options and options.get("specname")) or name
        if hook not in known:
            raise PluginError(f"'{hook}' is no hook.{nearest(hook, known)} Hooks: {', '.join(known)}.")
        if options is None:
            raise PluginError(f"'{hook}' is not marked as a hook: put @hookimpl above it.")
    if not hooks:
        raise PluginError(f"it implements no hook. Hooks: {', '.join(known)}.")


def _entries(kind: str, hook: Any) -> Iterator[Entry]:
    listed = hook()
    if not isinstance(listed, Iterable):
        raise PluginError(f"ovvol_{kind}s returned {listed!r}; it must yield its {kind}s.")
    for item in listed:  # a generator hook runs here, and not before
        yield _command_entry(item) if kind == "command" else _checked_entry(kind, item)


def _checked_entry(kind: str, item: object) -> Entry:
    if not isinstance(item, Entry):
        raise PluginError(
            f"ovvol_{kind}s yielded {item!r}; expected Entry(name, factory, summary) from ovvol_bench."
        )
    if not isinstance(item.name, str) or not _NAME.fullmatch(item.name):
        raise PluginError(
            f"ovvol_{kind}s yielded the name {item.name!r}; expected letters, digits, '_', '-' and '.' only, "
            "as names are typed and become folders."
        )
    if item.presets and kind == "metric":
        raise PluginError(f"metric '{item.name}' has presets; presets say by themselves how they score.")
    if item.recipes and kind not in TRAINABLE:
        raise PluginError(f"{kind} '{item.name}' has recipes; only {', '.join(TRAINABLE)}s are trained.")
    return item


def _check_factories(found: Found) -> None:
    """Refuse factories that can't be called, and the signatures of those that are no names."""
    who = f"{found.kind} '{found.entry.name}'"
    for name, factory in found.recipes.items():
        if not _NAME.fullmatch(name) or not callable(factory):
            raise PluginError(f"{who}: recipe {name!r}: expected a name and a function.")
    if not callable(found.factory):
        raise PluginError(
            f"{who}: the factory is {found.factory!r}; expected a function, class or 'package.module:Name'."
        )
    for factory in (found.factory, *found.recipes.values()):
        if isinstance(factory, Lazy) and not factory.is_valid:
            raise PluginError(f"{who} names {factory!r}; expected 'package.module:Name'.")
    if not isinstance(found.factory, Lazy):
        component_settings(found)
    for name, factory in found.recipes.items():
        if not isinstance(factory, Lazy):
            recipe_settings(found, name)


def component_settings(found: Found) -> list[Setting]:
    """Read the settings of a component, in the order of its factory's signature.

    Raises:
        PluginError: if the signature declares what no setting can be, or can't be had.
    """
    who = f"{found.kind} '{found.entry.name}'"
    with _naming(who):
        settings = read_settings(found.factory)
    for setting in settings:
        if isinstance(setting.role, Filled) and not isinstance(setting.role, FILLED.get(found.kind, ())):
            raise PluginError(
                f"{who}: setting '{setting.name}' {setting.role.text}, which no {found.kind} is"
                " told. Give it a plain type."
            )
    argument, names = found.entry.argument, [setting.name for setting in settings]
    if argument is not None and argument not in names:
        raise PluginError(f"{who}: its argument '{argument}' is none of its settings.")
    told = {"training": found.entry.training, **found.entry.presets}
    for place, values in told.items():
        if unknown := sorted(values.keys() - set(names)):
            raise PluginError(f"{who}: {place} names '{unknown[0]}', which is none of its settings.")
    return settings


def recipe_settings(found: Found, name: str) -> list[Setting]:
    """Read the settings of a recipe; its first parameter is what it is made for.

    Raises:
        PluginError: see `component_settings`.
    """
    with _naming(f"{found.kind} '{found.entry.name}': recipe '{name}'"):
        return read_settings(found.recipes[name], given=1)


@contextmanager
def _naming(who: str) -> Iterator[None]:
    try:
        yield
    except PluginError as error:
        raise PluginError(f"{who}: {error}") from error


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


def _command_entry(item: object) -> Entry:
    import click

    if not isinstance(item, click.Command) or not item.name:
        raise PluginError(f"ovvol_commands yielded {item!r}; expected a click command with a name.")
    return Entry(item.name, lambda: item, item.get_short_help_str())
