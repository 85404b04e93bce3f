"""Plugins of installed packages and files: found, loaded, and checked before anything of them counts.

The checks are strict where pluggy is silent: misspelt and unmarked hooks, and entries that are none.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import util
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pluggy

from ovvol_bench.errors import PluginError, nearest
from ovvol_bench.files import require_file
from ovvol_bench.registry import hookspecs
from ovvol_bench.registry.code import code_of_file, code_of_plugin
from ovvol_bench.registry.entries import KINDS, TRAINABLE, Entry, Found
from ovvol_bench.registry.lazy import Lazy

GROUP = "ovvol_bench"
"""Entry-point group of plugins."""

RESTRICT = "OVVOL_PLUGINS"
"""Environment variable: comma list of the entry points to load; empty for none, unset for all."""

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
"""Names of components, which are typed and become folders."""


@dataclass(frozen=True)
class Source:
    """A plugin that isn't loaded yet.

    Attributes:
        origin: as in `Found.origin`.
        version: as in `Found.version`.
        load: imports the plugin; may raise anything.
        code: digest of its code, or of a part of it: what the module of a component, as text, needs.
    """

    origin: str
    version: str
    load: Callable[[], Any]
    code: Callable[[str | None], str]


def restriction() -> list[str] | None:
    """Return the entry-point names that `RESTRICT` allows, or None if it is unset."""
    text = os.environ.get(RESTRICT)
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def installed(only: Sequence[str] | None) -> list[Source]:
    """List the plugins of installed packages, ordered by package and entry point.

    Args:
        only: entry points to load, or None for all.

    Raises:
        PluginError: if ``only`` names an entry point that isn't installed.
    """
    found = [(point.dist.name if point.dist else "", point) for point in entry_points(group=GROUP)]
    # Lists, conflicts and digests must not depend on the order of folders in sys.path.
    found.sort(key=lambda each: (each[0], each[1].name))
    known = [point.name for _, point in found]
    for name in only or ():
        if name not in known:
            raise PluginError(
                f"{RESTRICT} names the plugin '{name}', which is not installed.{nearest(name, known)} "
                f"Installed: {', '.join(known)}."
            )
    sources = []
    for package, point in found:
        if only is None or point.name in only:
            version = point.dist.version if point.dist else "unknown"
            origin = f"{package or 'unknown package'} {version} ({point.value})"
            code = partial(code_of_plugin, point.module, point.dist)
            sources.append(Source(origin, version, point.load, code))
    return sources


def from_file(path: Path) -> Source:
    """Find a plugin in a Python file.

    Raises:
        PluginError: if the file can't be read.
    """
    try:
        content = require_file(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise PluginError(f"plugin file {path} can't be read: {reason}.") from error
    digest = hashlib.sha256(content).hexdigest()[:12]
    name = f"ovvol_bench_file_{path.stem}_{digest}"

    def load() -> Any:
        spec = util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise PluginError("a plugin file is Python source and ends in .py")
        module = util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickling look a class's module up there
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
        return module

    return Source(f"file {path}", f"sha256:{digest}", load, lambda _: code_of_file(path))


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
    _check_hooks(manager, plugin)
    manager.register(plugin)
    found = [
        Found(kind, entry, source.origin, source.version, source.code)
        for kind in (*KINDS, "command")
        for implementation in getattr(manager.hook, f"ovvol_{kind}s").get_hookimpls()
        for entry in _entries(kind, implementation.function)
    ]
    for (kind, name), count in Counter((item.kind, item.entry.name) for item in found).items():
        if count > 1:
            raise PluginError(f"it registers {kind} '{name}' twice.")
    for item in found:
        if item.kind != "command":
            _check_factories(item)
    return found


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    known = [name for name in dir(hookspecs) if manager.parse_hookspec_opts(hookspecs, name) is not None]
    is_empty = True
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        # A function of such a name was meant as a hook, marked or not.
        if options is None and not (name.startswith("ovvol_") and inspect.isroutine(getattr(plugin, name))):
            continue
        is_empty, hook = False, (options and options.get("specname")) or name
        if hook not in known:
            raise PluginError(f"'{hook}' is no hook.{nearest(hook, known)} Hooks: {', '.join(known)}.")
        if options is None:
            raise PluginError(f"'{hook}' is not marked as a hook: put @hookimpl above it.")
    if is_empty:
        raise PluginError(f"it implements no hook. Hooks: {', '.join(known)}.")


def _entries(kind: str, hook: Callable[[], object]) -> Iterator[Entry]:
    listed = hook()
    if not isinstance(listed, Iterable):
        raise PluginError(f"ovvol_{kind}s returned {listed!r}; it must yield its {kind}s.")
    for item in listed:  # a generator hook runs here, and not before
        yield _command_entry(item) if kind == "command" else _checked_entry(kind, item)


def _command_entry(item: object) -> Entry:
    import click

    if not isinstance(item, click.Command) or not item.name:
        raise PluginError(f"ovvol_commands yielded {item!r}; expected a click command with a name.")
    return Entry(item.name, lambda: item, item.get_short_help_str())


def _checked_entry(kind: str, item: object) -> Entry:
    if not isinstance(item, Entry):
        raise PluginError(
            f"ovvol_{kind}s yielded {item!r}; expected Entry(name, factory, summary) from ovvol_bench."
        )
    if not isinstance(item.name, str) or not NAME.fullmatch(item.name):
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
    """Refuse factories that can't be called, and bad signatures of those that need no import."""
    for name, factory in found.recipes.items():
        if not NAME.fullmatch(name) or not callable(factory):
            raise PluginError(f"{found}: recipe {name!r}: expected a name and a function.")
    if not callable(found.factory):
        raise PluginError(
            f"{found}: the factory is {found.factory!r}; expected a function, class or 'package.module:Name'."
        )
    for factory in (found.factory, *found.recipes.values()):
        if isinstance(factory, Lazy) and not factory.is_valid:
            raise PluginError(f"{found} names {factory!r}; expected 'package.module:Name'.")
    if not isinstance(found.factory, Lazy):
        found.settings()
    for name, factory in found.recipes.items():
        if not isinstance(factory, Lazy):
            found.recipe_settings(name)
