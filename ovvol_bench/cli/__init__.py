"""The command line: ``ovvol-bench COMMAND``, one module of this package a command.

Command modules expose a click command named ``command`` and import heavy libraries inside functions.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from typing import Any

import click

from ovvol_bench.cli.common import plugin_option, quiet_option, registry_from
from ovvol_bench.errors import OvvolError
from ovvol_bench.printing import printable, printable_lines

COMMANDS = (
    "run",
    "train",
    "eval",
    "ladder",
    "bench",
    "export",
    "table",
    "compare",
    "overlay",
    "reproduce",
    "results",
    "data",
    "plugins",
    "show",
    "check",
    "new",
)
"""The harness's own commands in the order of ``--help``; each is a module of the same name."""


class Failure(click.ClickException):
    """A mistake in the input: one message, exit code 2, no traceback."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the message to standard error."""
        click.echo(f"ovvol-bench: {self.format_message()}", file=file, err=True)


@contextmanager
def _one_message() -> Iterator[None]:
    """Mistakes in the input end with their message, an interrupt with exit code 130."""
    try:
        yield
    except OvvolError as error:
        raise Failure(printable_lines(str(error))) from error
    except BrokenPipeError:  # click's: whoever read our output has seen enough
        raise
    except OSError as error:  # of the system, as a disk that is full where no other place has said so
        if error.filename is None and error.errno == errno.ENOSPC:
            # What is still in the buffer would be written again at the end, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        raise Failure(printable(f"{where}{error.strerror or error}")) from error
    except KeyboardInterrupt:
        click.echo("ovvol-bench: interrupted", err=True)
        raise click.exceptions.Exit(130) from None


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for, and takes further ones from plugins.

    Plugins load for ``--help`` and for names that are not the harness's own, so they neither slow
    nor break, nor replace, a command that comes with it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The harness's own commands, then those of plugins."""
        return [*COMMANDS, *(name for name in self._plugin_commands(ctx) if name not in COMMANDS)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name, or None."""
        if cmd_name in COMMANDS:
            command: click.Command = import_module(f"{__name__}.{cmd_name}").command
            return command
        if cmd_name in self._plugin_commands(ctx):
            found: click.Command = registry_from(ctx).find("command", cmd_name).entry.factory()
            return found
        return None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the group's own options; ``--help`` ends here, once it has listed the commands."""
        with _one_message():
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _one_message():
            return super().invoke(ctx)

    def _plugin_commands(self, ctx: click.Context) -> list[str]:
        return registry_from(ctx).names("command")


@click.group(cls=LazyGroup, name="ovvol-bench", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ovvol-bench", prog_name="ovvol-bench")
@quiet_option
@plugin_option
def main() -> None:
    """Benchmark unsupervised, open-vocabulary object localization in videos."""
    if isinstance(sys.stdout, TextIOWrapper):  # names of files may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
