"""The registry: plugins loaded one by one, each checked before anything of it counts."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pluggy

from ovvol_bench.errors import (
    DataError,
    DecodeError,
    PluginError,
    SettingError,
    UnknownNameError,
    WeightsError,
    calling,
    nearest,
    reason_of,
)
from ovvol_bench.registry.annotations import Located, Pretrained
from ovvol_bench.registry.discovery import (
    NAME,
    RESTRICT,
    Source,
    from_file,
    installed,
    listed_by,
    new_manager,
    restriction,
)
from ovvol_bench.registry.entries import KINDS, Found
from ovvol_bench.registry.hookspecs import EVENTS
from ovvol_bench.registry.lazy import Lazy
from ovvol_bench.registry.settings import Setting, SettingsOf

SECONDS = 30.0
"""That a plugin may take to import and to list what it has; those of the harness take milliseconds."""


class Broken(NamedTuple):
    """A plugin that can't be used, and why."""

    origin: str
    error: PluginError


class Conflict(NamedTuple):
    """A name that several plugins take; none of them gets it."""

    kind: str
    name: str
    found: tuple[Found, ...]

    def __str__(self) -> str:
        origins = " and by ".join(found.origin for found in self.found)
        return f"{self.kind} '{self.name}' is registered by {origins}"


class FoundRecipe(SettingsOf):
    """A way to train a component: its settings and how to make it.

    Args:
        name: of the recipe.
        found: the component that it trains.
        see: the command that shows its settings.
    """

    def __init__(self, name: str, found: Found, see: str) -> None:
        super().__init__("recipe", name, found.recipe_settings(name), see)
        self.factory = found.recipes[name]

    def build(self, task: Any, options: Mapping[str, object]) -> Any:
        """Make the recipe for a ``TrainingTask``, with settings as for `Registry.resolve`."""
        values = self.values(options)
        with calling(f"recipe '{self.name}'"):
            return self.factory(task, **values)


class Registry:
    """Components, recipes, commands and hooks of all plugins, by kind and name.

    Attributes:
        broken: installed plugins that failed to load, with the reason.
    """

    def __init__(self, only: Sequence[str] | None = None) -> None:
        self.broken: list[Broken] = []
        self._only = only
        self._manager = new_manager()
        self._found: defaultdict[tuple[str, str], list[Found]] = defaultdict(list)

    @property
    def hook(self) -> pluggy.HookRelay:
        """Calls a hook of all plugins, as in ``registry.hook.ovvol_run_started(spec=spec)``."""
        return self._manager.hook

    @property
    def conflicts(self) -> list[Conflict]:
        """Names that are taken more than once."""
        taken = sorted(self._found.items())
        return [Conflict(*key, tuple(found)) for key, found in taken if len(found) > 1]

    def unusable(self, sound: str) -> list[Broken]:
        """List components named by text that can't be loaded or set; the others of their plugin work.

        Args:
            sound: how origins of plugins begin that are not looked at.
        """
        broken = []
        for found in (each for same in self._found.values() for each in same):
            if isinstance(found.factory, Lazy) and not found.origin.startswith(sound):
                try:
                    found.settings()
                except PluginError as error:
                    broken.append(Broken(found.origin, error))
        return broken

    @property
    def listeners(self) -> list[tuple[str, str]]:
        """Event hooks that plugins implement, as (hook, origin)."""
        return [
            (hook, implementation.plugin_name)
            for hook in EVENTS
            for implementation in getattr(self.hook, hook).get_hookimpls()
        ]

    def add(self, source: Source) -> None:
        """Load a plugin and take in what it registers: all of it, or nothing.

        Raises:
            PluginError: if it fails to load, misspells a hook, or registers what is no valid entry.
        """
        try:
            with redirect_stdout(sys.stderr), time_limit(SECONDS):  # stdout is for what was asked for
                plugin = source.load()
                found = listed_by(plugin, source)
            # Last, once nothing of it can fail: its event hooks would else be called for what isn't there.
            self._manager.register(plugin, name=source.origin)
        except KeyboardInterrupt:  # the user's, or raised by the plugin: `load_registry` tells them apart
            raise
        except BaseException as error:  # a module may call sys.exit while it is imported
            reason = str(error) if isinstance(error, PluginError | SyntaxError) else reason_of(error)
            if isinstance(error, pluggy.PluginValidationError):
                reason = " ".join(str(error).split())
            raise PluginError(f"plugin {source.origin} is broken: {reason}") from error
        for item in found:
            self._found[item.kind, item.entry.name].append(item)

    def names(self, kind: str) -> list[str]:
        """Names that can be asked for, sorted."""
        return sorted(name for (of, name), found in self._found.items() if of == kind and len(found) == 1)

    def find(self, kind: str, name: str) -> Found:
        """Look a component up.

        Args:
            kind: one of `KINDS`.
            name: of the component; NAME:VALUE gives the entry's ``argument`` with it.

        Raises:
            UnknownNameError: if no plugin has the name; plugins that failed to load are mentioned.
            PluginError: if several plugins take the name.
            SettingError: if the component takes no argument, or the value is none that a folder can have.
        """
        name, colon, value = name.partition(":")
        found = self._found.get((kind, name), [])
        if not found:
            raise UnknownNameError(self._unknown(kind, name))
        if len(found) > 1:
            conflict = Conflict(kind, name, tuple(found))
            raise PluginError(f"{conflict}. Uninstall one, or leave one out with {RESTRICT}.")
        argument = found[0].entry.argument
        if colon and argument is None:
            raise SettingError(f"{kind} '{name}' takes nothing after a colon, got ':{value}'.")
        # The value is part of the name by which runs and their folders are called.
        if colon and not NAME.fullmatch(value):
            raise SettingError(
                f"{kind} '{name}:{value}': expected letters, digits, '_', '-' and '.' after the colon, as"
                f" names become folders. Set anything else with -o {kind}.{argument}=VALUE."
            )
        return found[0]

    def settings(self, kind: str, name: str) -> list[Setting]:
        """Read the settings of a component, in the order of its factory's signature."""
        return self.find(kind, name).settings()

    def resolve(self, kind: str, name: str, options: Mapping[str, object]) -> dict[str, Any]:
        """Check settings and fill in defaults.

        Args:
            kind: one of `KINDS`.
            name: of the component.
            options: values by setting, as text or as the setting's type.

        Returns:
            Every setting's value, in types that JSON has; `build` takes them.

        Raises:
            SettingError: if a setting is unknown, missing or has a wrong value.
        """
        found, options = self._asked(kind, name, options)
        return SettingsOf(kind, name, found.settings()).json_values(options)

    def build(self, kind: str, name: str, options: Mapping[str, object]) -> Any:
        """Build a component, with settings as for `resolve`.

        Raises:
            SettingError: if a setting is unknown, missing or has a wrong value.
            WeightsError, DataError: if weights or data can't be read or do not fit; names the setting that
                says where they lie.
        """
        found, options = self._asked(kind, name, options)
        values = SettingsOf(kind, name, found.settings()).values(options)
        try:
            with calling(f"{kind} '{name}' of {found.origin}"):
                return found.factory(**values)
        except DecodeError:  # of one clip, which it names
            raise
        except (WeightsError, DataError) as error:
            raise _naming_setting(error, found, values) from error

    def tell(self, event: str, **arguments: Any) -> None:
        """Call one of the hooks `EVENTS` of all plugins.

        Raises:
            PluginError: if one of them fails.
        """
        with calling(f"hook {event}"):
            getattr(self.hook, event)(**arguments)

    def recipe(self, kind: str, name: str, recipe: str | None = None) -> FoundRecipe:
        """Find a way to train a component.

        Args:
            kind: one of `KINDS`.
            name: of the component.
            recipe: by name; None for the usual one.

        Raises:
            UnknownNameError: if the component is not installed, or has no such recipe or none at all.
        """
        found = self.find(kind, name)
        recipes = found.recipes
        if not recipes:
            able = [other for other in self.names(kind) if self.find(kind, other).entry.recipes]
            raise UnknownNameError(
                f"{kind} '{name}' comes without a training recipe. "
                f"{kind.capitalize()}s that can be trained: {', '.join(able) or 'none'}."
            )
        recipe = recipe or next(iter(recipes))
        if recipe not in recipes:
            raise UnknownNameError(
                f"{kind} '{name}' has no recipe '{recipe}'.{nearest(recipe, recipes)} "
                f"Recipes: {', '.join(recipes)}."
            )
        return FoundRecipe(recipe, found, f"show {kind} {name}")

    def _asked(
        self, kind: str, name: str, options: Mapping[str, object]
    ) -> tuple[Found, Mapping[str, object]]:
        """Find a component, and add the setting that NAME:VALUE gives."""
        found = self.find(kind, name)
        argument, value = found.entry.argument, name.partition(":")[2]
        if argument is None or not value:
            return found, options
        if options.get(argument, value) != value:
            raise SettingError(
                f"{kind} '{name}' is set to {argument}={options[argument]} as well. Give one of the two."
            )
        return found, {**options, argument: value}

    def _unknown(self, kind: str, name: str) -> str:
        if kind not in (*KINDS, "command"):
            return f"unknown kind '{kind}'.{nearest(kind, KINDS)} Kinds: {', '.join(KINDS)}."
        names = self.names(kind)
        lines = [
            f"unknown {kind} '{name}'.{nearest(name, names)}",
            f"Installed {kind}s: {', '.join(names) or 'none'}. See: ovvol-bench plugins",
        ]
        if self._only is not None:
            lines.append(f"{RESTRICT} allows only: {', '.join(self._only) or 'none'}.")
        lines += [f"Not searched: {error}" for _, error in self.broken]
        return "\n".join(lines)


def _naming_setting(
    error: WeightsError | DataError, found: Found, values: Mapping[str, Any]
) -> WeightsError | DataError:
    """Begin an error about content with the settings it is from: those whose values it shows."""
    of_weights, kind, settings = isinstance(error, WeightsError), found.kind, found.settings()
    role = Pretrained if of_weights else Located
    given = [each.name for each in settings if isinstance(each.role, role) and values[each.name]]
    shown = [name for name in given if str(values[name]) in str(error)]
    if of_weights:
        shown = shown or given
    if not shown or any(f"{kind}.{each}" in str(error) for each in shown):
        return error
    message = f"{' or '.join(f'{kind}.{each}' for each in shown)}: {error}"
    if not of_weights:
        return DataError(message)
    # Sizes that don't fit the weights are among the settings that were changed.
    changed = ", ".join(
        f"{each.name}={values[each.name]}"
        for each in settings
        if each.role is None and each.default != values[each.name]
    )
    return WeightsError(
        f"{message} Settings of the {kind} beside its defaults: {changed}." if changed else message
    )


def load_registry(plugin_files: Sequence[Path] = (), only: Sequence[str] | None = None) -> Registry:
    """Load the installed plugins and some files.

    A broken plugin of an installed package is kept in `Registry.broken` and stops nothing that doesn't
    need it; a broken file is an error, as it was asked for.

    Args:
        plugin_files: Python files, loaded after the packages; a file named twice counts once.
        only: entry-point names to load; by default those in the variable ``OVVOL_PLUGINS``, or all.

    Raises:
        PluginError: if a file is missing or broken, or ``only`` names a plugin that isn't installed.
    """
    only = restriction() if only is None else only
    registry = Registry(only)
    for source in installed(only):
        try:
            registry.add(source)
        except PluginError as error:
            registry.broken.append(Broken(source.origin, error))
        except KeyboardInterrupt as error:
            # The user's, unless the line that was at work is a ``raise`` statement.
            line = traceback.extract_tb(error.__traceback__)[-1].line or ""
            if not line.lstrip().startswith("raise"):
                raise
            reason = PluginError(f"plugin {source.origin} is broken: {reason_of(error)}")
            registry.broken.append(Broken(source.origin, reason))
    for path in {path.resolve(): path for path in plugin_files}.values():
        registry.add(from_file(path))
    return registry


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise a PluginError in what takes longer, where the system can: in the main thread, not on Windows."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def give_up(*_: object) -> None:
        raise PluginError(
            f"it takes longer than {seconds:g} s to import. Import what is heavy inside the factory."
        )

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
