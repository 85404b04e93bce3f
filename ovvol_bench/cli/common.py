"""Options that mean the same for every command, the registry of this call, and output in its forms."""

from __future__ import annotations

import json
import logging
import re
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from ovvol_bench.api.run import SETTING_KINDS, Device, kind_and_setting, with_weights
from ovvol_bench.cli.completion import complete_names, complete_presets, complete_setting
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.printing import json_printable, shortened
from ovvol_bench.progress import LOGGER
from ovvol_bench.registry import Registry, load_registry

if TYPE_CHECKING:
    from ovvol_bench.runs.store import RunFolder

Decorated = TypeVar("Decorated", bound=Callable[..., Any])
Settings = dict[str, dict[str, str]]

PATH = click.Path(path_type=Path)
PARTS = ("encoder", "grouper", "labeler", "dataset")
RUNNING = ("output", "device", "batch_size", "workers")
"""Keywords of ``api.run.run_selection`` that ``running_options`` are for."""

_FILES = "ovvol_bench.plugin_files"
_REGISTRY = "ovvol_bench.registry"


def plugin_option(command: Decorated) -> Decorated:
    """Add ``--plugin PATH`` to a command.

    The paths are kept with the call and not passed to the function: they count the same before and
    after the command's name. Ask for the result with `registry_from`.
    """

    def remember(context: click.Context, _: click.Parameter, paths: Sequence[Path]) -> None:
        context.meta[_FILES] = (*plugin_files(context), *paths)

    text = "Load a plugin from a Python file (may be repeated)."
    return click.option(
        "--plugin", multiple=True, type=PATH, expose_value=False, callback=remember, help=text
    )(command)


def plugin_files(context: click.Context) -> tuple[Path, ...]:
    """Return the ``--plugin`` files of this call."""
    files: tuple[Path, ...] = context.meta.get(_FILES, ())
    return files


def registry_from(context: click.Context) -> Registry:
    """Return the registry of this call: installed plugins and every ``--plugin`` file, loaded once.

    Args:
        context: of any command of the call (``@click.pass_context``).

    Raises:
        PluginError: if a ``--plugin`` file is missing or broken.
    """
    # By files: those after the command's name are known only once the group has loaded its own.
    files = plugin_files(context)
    loaded: dict[tuple[Path, ...], Registry] = context.meta.setdefault(_REGISTRY, {})
    if files not in loaded:
        loaded[files] = load_registry(files)
    return loaded[files]


def quiet_option(command: Decorated) -> Decorated:
    """Add ``--quiet``, which counts the same before and after the command's name."""

    def silence(context: click.Context, _: click.Parameter, quiet: bool) -> None:
        # The group's flag is read first, and undoes what an earlier call in this process has set.
        if quiet or context.parent is None:
            LOGGER.setLevel(logging.WARNING if quiet else logging.INFO)

    text = "Show no progress."
    return click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=silence, help=text)(
        command
    )


def choice_option(
    flag: str, choices: Any, text: str | None = None, **attributes: Any
) -> Callable[[Decorated], Decorated]:
    """Add an option with some choices, a tuple or a ``Literal``; the first is the default if no other is."""
    names = choices if isinstance(choices, tuple) else get_args(choices)
    return click.option(
        flag, **{"type": click.Choice(names), "default": names[0], "help": text, **attributes}
    )


def format_option(*styles: str) -> Callable[[Decorated], Decorated]:
    """Add ``--format`` with these choices, the first as default; the function gets ``style``."""
    return click.option(
        "--format", "style", type=click.Choice(styles), default=styles[0], help="Form of the output."
    )


def preset_option(text: str) -> Callable[[Decorated], Decorated]:
    """Add ``--preset``."""
    return click.option("--preset", default="shapes", shell_complete=complete_presets, help=text)


def limit_option(text: str = "Only the first so many clips.") -> Callable[[Decorated], Decorated]:
    """Add ``--limit``."""
    return click.option("--limit", type=click.IntRange(min=1), metavar="CLIPS", help=text)


def names_option(
    *flags: str, metavar: str = "NAME,...", **attributes: Any
) -> Callable[[Decorated], Decorated]:
    """Add an option of names between commas; given several times, they add up.

    The function gets a list, or None if the option was not given. An empty name is refused.
    """

    def split(_: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> list[str] | None:
        names = [name.strip() for text in texts for name in text.split(",")]
        if not all(names):
            raise click.BadParameter(f"{texts} holds an empty name; expected names, with commas between")
        return names or None

    return click.option(*flags, multiple=True, metavar=metavar, callback=split, **attributes)


def numbers_option(flag: str, what: str, example: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """Add an option of whole numbers from 0 between commas; given several times, they add up.

    The function gets a tuple, or None if the option was not given and has no default.
    """

    def read(_: click.Context, parameter: click.Parameter, texts: Sequence[str]) -> tuple[int, ...] | None:
        for text in texts:
            if not re.fullmatch(r"\d+(,\d+)*", text):
                raise click.BadParameter(f"'{text}' is no list of {what}; expected numbers, as in {example}")
        return tuple(int(number) for text in texts for number in text.split(",")) or None

    return click.option(flag, multiple=True, callback=read, **attributes)


seeds_option = partial(numbers_option, "--seeds", "seeds", "0,1,2", metavar="SEED,...")
"""Adds ``--seeds``, with ``help``."""


def part_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--encoder``, ``--grouper``, ``--labeler`` and ``--dataset``."""
    for kind in reversed(PARTS):
        every = "" if kind == "dataset" else ", or all"
        text = f"One {kind} or several{every}; by default the preset's."
        command = names_option(f"--{kind}", help=text, shell_complete=complete_names(kind))(command)
    return command


def running_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--output``, ``--device``, ``--batch-size`` and ``--workers``."""
    batch, workers = click.IntRange(1, 4096), click.IntRange(1, 1024)
    threads = "Threads that read frames ahead; by default one a processor, up to 16."
    for option in (
        click.option("--workers", type=workers, metavar="N", help=threads),
        click.option("--batch-size", type=batch, help="Clips at a time; by default as many as fit."),
        choice_option("--device", Device),
        click.option("--output", type=PATH, default=Path("runs"), help="Where run folders go."),
    ):
        command = option(command)
    return command


def option_settings(text: str, kinds: Sequence[str] = SETTING_KINDS, **attributes: Any) -> Any:
    """Add ``-o KIND.SETTING=VALUE`` for some kinds.

    The function gets ``settings``: {kind: {setting: text}}.
    """
    return click.option(
        *("-o", "--option", "settings"),
        multiple=True,
        metavar="KIND.SETTING=VALUE",
        callback=lambda context, parameter, texts: parse_settings(texts, kinds),
        help=f"{text} (may be repeated).",
        **attributes,
    )


settings_option = option_settings(
    "Set a setting of a component, as in -o grouper.num_slots=8, or of one among several, as in "
    "-o grouper:kmeans.num_slots=8",
    shell_complete=complete_setting,
)


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


def check_kinds(settings: Settings, kind: str, *more: str) -> None:
    """Refuse settings of anything but the one component that a command is about."""
    if others := sorted(settings.keys() - {kind, *more}):
        raise SettingError(
            f"-o {others[0]}: only settings of the {kind} count here, as in -o {kind}.SETTING=VALUE"
        )


def typed_settings(options: Mapping[str, Any]) -> Settings:
    """Join what ``-o`` and ``--weights-from`` set; the former counts where both do."""
    settings: Settings = options["settings"]
    return with_weights(settings, options["weights_from"]) if options["weights_from"] else settings


def run_folder(path: Path) -> RunFolder:
    """Return the folder of a run.

    Raises:
        DataError: if it is none.
    """
    from ovvol_bench.runs.store import RunFolder

    folder = RunFolder(path)
    if not folder.spec_file.is_file():
        raise DataError(
            f"{path} is not a run folder: it has no {folder.spec_file.name}. See: ovvol-bench run"
        )
    return folder


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
    cells = [["" if cell is None else shortened(str(cell)) for cell in row.values()] for row in rows]
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


def without_empty(rows: Sequence[dict[str, Any]], column: str) -> list[dict[str, Any]]:
    """Leave a column out of rows that all have nothing there."""
    if any(row[column] for row in rows):
        return list(rows)
    return [{name: cell for name, cell in row.items() if name != column} for row in rows]
