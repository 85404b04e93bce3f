"""Plugins to be loaded: entry points of installed packages, and files."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import util
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from ovvol_bench.errors import PluginError, nearest
from ovvol_bench.files import require_file
from ovvol_bench.registry.code import code_of_file, code_of_plugin

GROUP = "ovvol_bench"
"""Entry-point group of plugins."""

RESTRICT = "OVVOL_PLUGINS"
"""Environment variable: comma list of the entry points to load; empty for none, unset for all."""


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
    points = sorted(entry_points(group=GROUP), key=lambda point: (_package(point), point.name))
    known = [point.name for point in points]
    for name in only or ():
        if name not in known:
            raise PluginError(
                f"{RESTRICT} names the plugin '{name}', which is not installed.{nearest(name, known)} "
                f"Installed: {', '.join(known)}."
            )
    sources = []
    for point in points:
        if only is None or point.name in only:
            version = point.dist.version if point.dist else "unknown"
            origin = f"{_package(point) or 'unknown package'} {version} ({point.value})"
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
    module = f"ovvol_bench_file_{path.stem}_{digest}"
    return Source(
        f"file {path}", f"sha256:{digest}", lambda: _import_file(path, module), lambda _: code_of_file(path)
    )


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else ""


def _import_file(path: Path, name: str) -> Any:
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
