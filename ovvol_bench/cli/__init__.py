"""The command line: ``ovvol-bench COMMAND``, one module of this package a command.

Command modules expose a click command named ``command`` and import heavy libraries inside functions.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from itertools import pairwise
from os import _exit as end_at_once  # `_loud_exit` replaces the name in os
from types import FrameType
from typing import Any, NoReturn

import click

from ovvol_bench.cli.common import plugin_option, quiet_option, registry_from
from ovvol_bench.errors import OvvolError, PluginError, SettingError, nearest, reason_of
from ovvol_bench.printing import printable, printable_lines
from ovvol_bench.tuning import spin_briefly

COMMANDS = (
    "run", "train", "eval", "ladder", "bench", "export", "table", "compare", "overlay", "reproduce",
    "results", "data", "plugins", "show", "check", "new", "completion",
)  # fmt: skip
"""The harness's own commands in the order of ``--help``; each is a module of the same name."""

_TRACEBACK = "ovvol_bench.traceback"


class Failure(click.ClickException):
    """A mistake in the input: one message, exit code 2, no traceback."""

    exit_code = 2

    def show(self, file: Any = None) -> None:
        """Print the message to standard error."""
        click.echo(f"ovvol-bench: {self.format_message()}", file=file, err=True)


class Interrupted(KeyboardInterrupt):
    """A signal that ends the command.

    Args:
        number: of the signal; the exit code is 128 more, as a shell has it.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def _one_message(context: click.Context) -> Iterator[None]:
    """Mistakes in the input and in plugins end with their message, a signal with 128 and its number.

    What a command of the harness raises by mistake keeps its traceback.
    """
    try:
        with _loud_exit(), _named_ending(context):
            yield
    except OvvolError as error:
        if os.environ.get("OVVOL_DEBUG") or context.meta.get(_TRACEBACK):
            raise
        for note in getattr(error, "__notes__", ()):  # what ended the other runs of a matrix
            click.echo(printable_lines(note), err=True)
        raise Failure(printable_lines(str(error))) from error
    except BrokenPipeError:  # click's: whoever read our output has seen enough
        raise
    except OSError as error:  # of the system, as a disk that is full where no other place has said so
        if error.filename is None and error.errno == errno.ENOSPC:
            # What is still in the buffer would be written again at the end, and fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        raise Failure(printable(f"{where}{error.strerror or error}")) from error
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        click.echo(f"ovvol-bench: {'interrupted' if number == signal.SIGINT else 'terminated'}", err=True)
        raise click.exceptions.Exit(128 + number) from None


@contextmanager
def _interrupted_once() -> Iterator[None]:
    """Let Ctrl-C, SIGTERM and SIGHUP interrupt, so that what cleans up runs; the next one ends at once."""
    usual: dict[signal.Signals, Any] = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    # Left alone where ignored, as of a job in the background or under nohup, or handled by whoever calls us.
    ours = [number for number, handler in usual.items() if signal.getsignal(number) is handler]

    def interrupt(number: int, frame: FrameType | None) -> None:
        # Stays to the end of the process: what cleans up after the first one must not show a traceback.
        for each in ours:
            signal.signal(each, lambda late, _: end_at_once(128 + late))
        raise Interrupted(number)

    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in ours:
            if signal.getsignal(number) is interrupt:
                signal.signal(number, usual[number])


@contextmanager
def _named_ending(context: click.Context) -> Iterator[None]:
    """A command of a plugin that fails is named, and so is foreign code that ends a command of our own."""
    try:
        yield
    except (OvvolError, OSError, KeyboardInterrupt, click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BaseException as error:
        name = context.invoked_subcommand
        # Bugs of our own commands keep their traceback; a plugin's may end in sys.exit on purpose.
        usual: type[BaseException] = Exception if name is None or name in COMMANDS else SystemExit
        if isinstance(error, usual):
            raise
        raise PluginError(f"command '{name}' failed: {reason_of(error)}") from error


@contextmanager
def _loud_exit() -> Iterator[None]:
    """``os._exit``, which ends a process at once, says who called it, and never with the code for success."""
    leave, process = os._exit, os.getpid()

    def loud(status: int) -> NoReturn:
        if os.getpid() == process:  # forked children may end so
            code = sys._getframe(1)
            where = f"{code.f_code.co_filename}, line {code.f_lineno}"
            click.echo(f"ovvol-bench: ended by os._exit({status}) ({where})", err=True)
            status = status or Failure.exit_code
        leave(status)

    os._exit = loud
    try:
        yield
    finally:
        os._exit = leave


def _refuse_empty(words: Sequence[str]) -> None:
    """Refuse empty words once for all options and arguments: an empty path would be the current folder.

    Raises:
        SettingError: names the option before it.
    """
    for before, word in pairwise(("ovvol-bench", *words)):
        option, equals, value = word.partition("=")
        if not word or (option.startswith("--") and equals and not value):
            raise SettingError(f"{option or before}: expected a value, got an empty one")


class LazyGroup(click.Group):
    """A group that imports a command when it is asked for, and takes further ones from plugins.

    Plugins load for ``--help`` and for names that are not the harness's own, so they neither slow
    nor break, nor replace, a command that comes with it.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The harness's own commands, then those of plugins."""
        return list(dict.fromkeys((*COMMANDS, *registry_from(ctx).names("command"))))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by name, or None."""
        if cmd_name in COMMANDS:
            command: click.Command = import_module(f"{__name__}.{cmd_name}").command
            return command
        registry = registry_from(ctx)
        if cmd_name not in registry.names("command"):
            return None
        found: click.Command = registry.find("command", cmd_name).factory()
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; for a name that is none, the nearest is suggested."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            ctx.fail(f"No such command '{name}'.{nearest(name, self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the group's own options; ``--help`` ends here, once it has listed the commands."""
        spin_briefly(os.environ)  # before anything loads torch
        with _one_message(ctx):
            _refuse_empty(args)
            return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command."""
        with _interrupted_once(), _one_message(ctx):
            return super().invoke(ctx)


@click.group(
    cls=LazyGroup,
    name="ovvol-bench",
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True},
)
@click.version_option(package_name="ovvol-bench", prog_name="ovvol-bench")
@quiet_option
@plugin_option
@click.option(
    "--traceback",
    is_flag=True,
    expose_value=False,
    callback=lambda context, _, wanted: context.meta.update({_TRACEBACK: wanted}),
    help="Show where an error came from, as OVVOL_DEBUG=1 does.",
)
def main() -> None:
    """Benchmark unsupervised, open-vocabulary object localization in videos."""
    if isinstance(sys.stdout, TextIOWrapper):  # names of files may hold bytes that are no text
        sys.stdout.reconfigure(errors="backslashreplace")
