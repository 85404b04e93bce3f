"""Options that mean the same for every command, and the registry of this call."""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ovvol_bench.api.run import SETTING_KINDS, kind_and_setting
from ovvol_bench.cli.completion import complete_presets, complete_setting
from ovvol_bench.errors import SettingError
from ovvol_bench.printing import json_printable, shortened
from ovvol_bench.progress import LOGGER
from ovvol_bench.registry import Registry, load_registry

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Settings = dict[str, dict[str, str]]

_FILES = "ovvol_bench.plugin_files"
_REGISTRY = "ovvol_bench.registry"


def plugin_option(command: Decorated) -> Decorated:
    """Add ``--plugin PATH`` to a command.

    The paths are kept with the call and not passed to the function: they count the same before and
    after the command's name. Ask for the result with `registry_from`.
    """
    return click.option(
        "--plugin",
        multiple=True,
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_remember_files,
        help="Load a plugin from a Python file (may be repeated).",
    )(command)


def _remember_files(context: click.Context, _: click.Parameter, paths: Sequence[Path]) -> None:
    known = context.meta.get(_FILES, ())
    context.meta[_FILES] = (*known, *paths)


def registry_from(context: click.Context) -> Registry:
    """The registry of this call: installed plugins and every ``--plugin`` file, loaded once.

    Args:
        context: of any command of the call (``@click.pass_context``).

    Raises:
        PluginError: if a ``--plugin`` file is missing or broken.
    """
    files = plugin_files(context)
    loaded: dict[tuple[Path, ...], Registry] = context.meta.setdefault(_REGISTRY, {})
    if files not in loaded:
        loaded[files] = load_registry(files)
    return loaded[files]


def plugin_files(context: click.Context) -> tuple[Path, ...]:
    """The ``--plugin`` files of this call."""
    files: tuple[Path, ...] = context.meta.get(_FILES, ())
    return files


def preset_option(text: str) -> Callable[[Decorated], Decorated]:
    """Add ``--preset``."""
    return click.option(
        "--preset", default="shapes", show_default=True, shell_complete=complete_presets, help=text
    )


def quiet_option(command: Decorated) -> Decorated:
    """Add ``--quiet``, which counts the same before and after the command's name."""
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_silence,
        help="Show no progress.",
    )(command)


def _silence(context: click.Context, _: click.Parameter, quiet: bool) -> None:
    if quiet or context.parent is None:
        LOGGER.setLevel(logging.WARNING if quiet else logging.INFO)


def names_option(
    *flags: str, metavar: str = "NAME,...", **attributes: Any
) -> Callable[[Decorated], Decorated]:
    """Add an option of names between commas; given several times, they add up.

    The function gets a list, or None if the option was not given. An empty name is refused.
    """
    return click.option(*flags, multiple=True, metavar=metavar, callback=_split_names, **attributes)


def _split_names(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> list[str] | None:
    names = [name.strip() for text in texts for name in text.split(",")]
    if not all(names):
        raise click.BadParameter(f"{texts} holds an empty name; expected names, with commas between")
    return names or None


def settings_option(command: Decorated) -> Decorated:
    """Add ``-o KIND.SETTING=VALUE``; the function gets ``settings``: {kind: {setting: text}}."""
    return click.option(
        "-o",
        "--option",
        "settings",
        multiple=True,
        metavar="KIND.SETTING=VALUE",
        shell_complete=complete_setting,
        callback=lambda context, parameter, texts: parse_settings(texts),
        help="Set a setting of a component, as in -o grouper.num_slots=8, or of one among several, as in "
        "-o grouper:kmeans.num_slots=8 (may be repeated).",
    )(command)


def parse_settings(texts: Sequence[str], kinds: Sequence[str] = SETTING_KINDS) -> Settings:
    """Sort ``KIND.SETTING=VALUE`` and ``KIND:NAME.SETTING=VALUE`` texts by kind.

    Args:
        texts: as typed after ``-o``.
        kinds: what may stand before the dot.

    Returns:
        {kind: {SETTING or NAME.SETTING: text}}, with the kinds that were named only.

    Raises:
        SettingError: if a text has another form, names an unknown kind, or sets a setting again.

    >>> parse_settings(["grouper.num_slots=8", "grouper.weights=none"])
    {'grouper': {'num_slots': '8', 'weights': 'none'}}
    >>> parse_settings(["grouper:kmeans.num_slots=8"])
    {'grouper': {'kmeans.num_slots': '8'}}
    """
    form = "Expected KIND.SETTING=VALUE, as in -o grouper.num_slots=8."
    settings: Settings = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"-o '{text}' has no '='. {form}")
        try:
            kind, setting = kind_and_setting(key, kinds)
        except SettingError as error:
            raise SettingError(f"-o {error}") from None
        if not value:
            raise SettingError(
                f"-o {key}= gives no value. {form} 'none' stands for no value, where one may lack."
            )
        known = settings.setdefault(kind, {})
        if setting in known:
            raise SettingError(f"-o {key} is given twice: '{known[setting]}' and '{value}'.")
        known[setting] = value
    return settings


def format_option(*styles: str) -> Callable[[Decorated], Decorated]:
    """Add ``--format`` with these choices, the first as default; the function gets ``style``."""
    return click.option(
        "--format",
        "style",
        type=click.Choice(styles),
        default=styles[0],
        show_default=True,
        help="Form of the output.",
    )


def echo_json(value: Any) -> None:
    """Print a value as indented JSON; not-a-number must be None by now."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    click.echo("\n".join(json_printable(line) for line in text.split("\n")))


def terminal_width() -> int | None:
    """Characters of a line of the terminal that is printed to; None for files and pipes, which have no limit.

    The variable ``COLUMNS`` counts before what the terminal says.
    """
    # A program that closes standard output before it starts another leaves it None.
    return shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None


def echo_table(
    rows: Sequence[Mapping[str, object]],
    style: str = "text",
    *,
    expendable: Sequence[str] = (),
    prose: Sequence[str] = (),
) -> None:
    """Print rows as aligned columns, headed by the keys of the first row; nothing for no rows.

    Missing values (None) are shown as an empty cell.

    Args:
        rows: of the same keys.
        style: ``text`` or ``markdown``.
        expendable: columns that a narrow terminal may lack, least important first.
        prose: columns of sentences, whose lines may be broken there.
    """
    from tabulate import tabulate

    from ovvol_bench.results.layout import TextColumn, fitted

    if not rows:
        return
    headers = list(rows[0])
    cells = [[_cell(value) for value in row.values()] for row in rows]
    form = {"text": "simple", "markdown": "github"}[style]
    table = tabulate(cells, headers=headers, tablefmt=form, disable_numparse=True)
    if style == "text":
        columns = [
            TextColumn(header, each, prose=header in prose)
            for header, each in zip(headers, zip(*cells, strict=True), strict=True)
        ]
        places = [headers.index(name) for name in expendable if name in headers]
        table, left_out = fitted(table, columns, terminal_width(), places)
        table += f"\n\n{left_out}" if left_out else ""
    click.echo(table)


def _cell(value: object) -> str:
    return "" if value is None else shortened(str(value))
