"""The command group: what it lists, and how it ends."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.errors import PluginError

COMMANDS = """
import click
from ovvol_bench import hookimpl
from ovvol_bench.errors import DataError

@click.command("hello")
@click.argument("how", default="well")
def hello(how):
    '''Say hello.'''
    if how == "badly":
        raise DataError("list file 'x.txt' is empty. Expected one clip a line.")
    if how == "interrupted":
        raise KeyboardInterrupt
    if how == "wrongly":
        raise ZeroDivisionError("a bug")
    click.echo("hello")

@click.command("show")
def show():
    '''Take a name that is taken.'''

@hookimpl
def ovvol_commands():
    yield hello
    yield show
"""


@pytest.fixture
def greeter(tmp_path) -> list[str]:
    path = tmp_path / "greeter.py"
    path.write_text(COMMANDS)
    return ["--plugin", str(path)]


def invoke(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


def test_help_lists_the_commands():
    result = invoke("--help")
    assert result.exit_code == 0
    assert "List the installed components" in result.output


def test_the_version_is_that_of_the_distribution():
    assert invoke("--version").output.startswith("ovvol-bench, version ")


def test_a_plugin_adds_a_command(greeter):
    result = invoke(*greeter, "hello")
    assert result.exit_code == 0
    assert result.output == "hello\n"


def test_a_plugin_cannot_replace_a_command(greeter):
    assert "settings" in invoke(*greeter, "show", "--help").output
    assert "command 'show' is registered by ovvol-bench and by file" in invoke(*greeter, "plugins").output


def test_a_mistake_in_the_input_is_one_message_and_code_2(greeter):
    result = invoke(*greeter, "hello", "badly")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr == "ovvol-bench: list file 'x.txt' is empty. Expected one clip a line.\n"


def test_an_interrupt_ends_with_130(greeter):
    result = invoke(*greeter, "hello", "interrupted")
    assert result.exit_code == 130
    assert result.stderr == "ovvol-bench: interrupted\n"


def test_what_fails_in_a_plugins_command_is_one_line_with_file_and_line(greeter):
    result = invoke(*greeter, "hello", "wrongly")
    assert result.exit_code == 2
    assert result.stderr.startswith("ovvol-bench: command 'hello' failed: ZeroDivisionError: a bug (")
    assert result.stderr.endswith("greeter.py, line 15)\n")


def test_the_traceback_is_there_for_who_asks(greeter, monkeypatch):
    asked = invoke("--traceback", *greeter, "hello", "wrongly").exception
    monkeypatch.setenv("OVVOL_DEBUG", "1")
    for error in (asked, invoke(*greeter, "hello", "wrongly").exception):
        assert isinstance(error, PluginError)
        assert isinstance(error.__cause__, ZeroDivisionError)


def test_a_bug_of_the_harness_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("ovvol_bench.cli.plugins.registry_from", lambda context: 1 // 0)
    assert isinstance(invoke("plugins").exception, ZeroDivisionError)


def test_foreign_code_that_ends_a_command_is_named(monkeypatch):
    monkeypatch.setattr("ovvol_bench.cli.plugins.registry_from", lambda context: sys.exit(0))
    result = invoke("plugins")
    assert result.exit_code == 2
    assert "command 'plugins' failed: SystemExit: it tried to end the process with 0" in result.stderr


@pytest.mark.parametrize(("given", "code"), [(0, 2), (7, 7)])
def test_a_process_is_never_ended_unsaid_and_with_success(monkeypatch, given, code):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    monkeypatch.setattr("ovvol_bench.cli.plugins.registry_from", lambda context: os._exit(given))
    result = invoke("plugins")
    assert codes == [code]
    assert f"ended by os._exit({given}) (" in result.stderr
    assert "test_main.py, line" in result.stderr


@pytest.mark.parametrize("arguments", [["nonsense"], ["plugins", "--nonsense"], ["show", "grouper"]])
def test_wrong_usage_ends_with_2(arguments):
    assert invoke(*arguments).exit_code == 2


def test_help_with_a_wrong_restriction_is_one_message(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "nonsense")
    result = invoke("--help")
    assert result.exit_code == 2
    assert result.stderr.startswith("ovvol-bench: OVVOL_PLUGINS names the plugin 'nonsense'")


def test_help_of_a_command_loads_no_plugin(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "nonsense")
    assert invoke("plugins", "--help").exit_code == 0


def test_the_console_script_is_this_group():
    script = Path(sys.executable).parent / "ovvol-bench"
    result = subprocess.run(
        [script, "show", "grouper", "nonsense"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    assert result.stderr.startswith("ovvol-bench: unknown grouper 'nonsense'.")
    assert "Traceback" not in result.stderr


def test_commands_of_plugins_are_listed_with_their_summary(greeter, tmp_path):
    with main.make_context("ovvol-bench", [*greeter, "hello"]) as context:
        assert "hello" in main.list_commands(context)
        command = main.get_command(context, "hello")
    assert isinstance(command, click.Command)
    assert command.get_short_help_str() == "Say hello."
