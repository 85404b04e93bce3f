"""Entries that plugins register, and what the host knows about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ovvol_bench.errors import PluginError
from ovvol_bench.registry.annotations import FILLED, Filled
from ovvol_bench.registry.code import code_of_module, combined
from ovvol_bench.registry.lazy import Lazy
from ovvol_bench.registry.settings import Setting, read_settings

KINDS = ("encoder", "grouper", "labeler", "dataset", "metric")
"""The kinds of component; hook ``ovvol_<kind>s`` lists the entries of each."""

TRAINABLE = ("encoder", "grouper", "labeler")
"""The kinds that may come with recipes."""


@dataclass(frozen=True)
class Entry:
    """A component that a plugin offers: how to build it, never a built model.

    Attributes:
        name: what users type. Letters, digits, ``_``, ``-`` and ``.``, starting with a letter or digit;
            one plugin only may take it within a kind.
        factory: the component's class, or a function that builds it. Its parameters are keyword-only and
            annotated: they are the component's settings. Given as text, ``my_package.kmeans:KMeans``, it is
            imported when the component is built, and its settings are read from the source; `Lazy` adds
            other defaults. Heavy libraries are imported there, or inside the function.
        summary: one line for ``ovvol-bench plugins``.
        recipes: ways to train the component by name, the usual one first; for encoders, groupers and
            labelers. Each takes a ``TrainingTask`` as its only positional argument and returns a
            ``Recipe``; its keyword-only, annotated parameters are the recipe's settings. Text and `Lazy`
            will do as for the factory.
        training: for datasets: the settings that say which part of the data it is, with the value for what
            is to be learned from, such as a split's name; None where users say it, as for a path. Data with
            the same values is the same, and is refused to trainings under a preset that scores it.
        argument: the setting that users may give with the name, as in ``timm:vit_small_patch16_224``; None
            if there is none.
        code: import names of packages that the component is made of beside those of its own distribution:
            their code counts for the identity of runs as well.
        presets: settings of the component under presets, by name, unless the preset has some for it; not for
            metrics.
        reference: paper that the component follows and what differs from it, for ``ovvol-bench show``.
    """

    name: str
    factory: Callable[..., Any] | str
    summary: str
    recipes: Mapping[str, Callable[..., Any] | str] = field(default_factory=dict)
    argument: str | None = None
    training: Mapping[str, object] = field(default_factory=dict)
    code: tuple[str, ...] = ()
    presets: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    reference: str = ""


@dataclass(frozen=True)
class Found:
    """An entry and where it came from.

    Attributes:
        kind: one of `KINDS`, or ``command``.
        entry: as the plugin registered it.
        origin: the plugin, for people: ``my-package 1.2 (my_package.plugin)`` or ``file my.py``.
        version: the distribution's version; for a file ``sha256:`` and the first 12 hex digits of its
            content, so that an edited file is another version.
        plugin_code: digest of the plugin's code, of what a module needs of it or of all.
    """

    kind: str
    entry: Entry
    origin: str
    version: str
    plugin_code: Callable[[str | None], str] = str

    def __str__(self) -> str:
        return f"{self.kind} '{self.entry.name}'"

    @cached_property
    def factory(self) -> Callable[..., Any]:
        """Builds the component; text became a `Lazy`."""
        return Lazy(self.entry.factory) if isinstance(self.entry.factory, str) else self.entry.factory

    @cached_property
    def recipes(self) -> dict[str, Callable[..., Any]]:
        """Recipes of the entry by name; text became a `Lazy`."""
        given = self.entry.recipes
        return {name: Lazy(each) if isinstance(each, str) else each for name, each in given.items()}

    @property
    def code(self) -> str:
        """SHA-256 of the code that the component is made of, 64 hex digits."""
        module = self.factory.module if isinstance(self.factory, Lazy) else None
        return combined([self.plugin_code(module), *map(code_of_module, self.entry.code)])

    def settings(self) -> list[Setting]:
        """Read the settings of the component, in the order of its factory's signature.

        Raises:
            PluginError: if the signature declares what no setting can be, or can't be had.
        """
        settings = _read(str(self), self.factory)
        for setting in settings:
            if isinstance(setting.role, Filled) and not isinstance(setting.role, FILLED.get(self.kind, ())):
                raise PluginError(
                    f"{self}: setting '{setting.name}' {setting.role.text}, which no {self.kind} is"
                    " told. Give it a plain type."
                )
        names = {setting.name for setting in settings}
        if self.entry.argument not in (None, *names):
            raise PluginError(f"{self}: its argument '{self.entry.argument}' is none of its settings.")
        for place, values in {"training": self.entry.training, **self.entry.presets}.items():
            if unknown := sorted(values.keys() - names):
                raise PluginError(f"{self}: {place} names '{unknown[0]}', which is none of its settings.")
        return settings

    def recipe_settings(self, name: str) -> list[Setting]:
        """Read the settings of a recipe; its first parameter is what it is made for.

        Raises:
            PluginError: as for `settings`.
        """
        return _read(f"{self}: recipe '{name}'", self.recipes[name], given=1)


def _read(who: str, factory: Callable[..., Any], given: int = 0) -> list[Setting]:
    try:
        return read_settings(factory, given)
    except PluginError as error:
        raise PluginError(f"{who}: {error}") from error
