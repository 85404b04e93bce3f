"""Completion of values, and its installation."""

import subprocess
import sys

import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from ovvol_bench.cli import main


def completed(*words: str) -> list[str]:
    shell = ShellComplete(main, {}, "ovvol-bench", "_OVVOL_BENCH_COMPLETE")
    return [item.value for item in shell.get_completions(list(words[:-1]), words[-1])]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--grouper", "kme"], ["kmeans"]),
        (["run", "--grouper", "grid,kme"], ["grid,kmeans"]),
        (["run", "--preset", "ti"], ["tiny"]),
        (["run", "-o", "grou"], ["grouper."]),
        (["run", "--grouper", "grid", "-o", "grouper.r"], ["grouper.rows="]),
        (["run", "-o", "grouper.num"], ["grouper.num_slots="]),
        (["run", "--grouper", "grid,kmeans", "-o", "grouper:k"], ["grouper:kmeans."]),
        (["run", "--grouper", "grid,kmeans", "-o", "grouper:grid.r"], ["grouper:grid.rows="]),
        (["show", "preset", "pa"], ["paper"]),
        (["show", "labeler", "pac"], ["pacl"]),
        (["compl"], ["completion"]),
    ],
)
def test_values_are_completed(words, expected):
    assert completed(*words) == expected


def test_one_command_installs_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    done = CliRunner().invoke(main, ["completion", "--install"])
    assert done.exit_code == 0, done.output
    script = tmp_path / ".config/fish/completions/ovvol-bench.fish"
    assert "_OVVOL_BENCH_COMPLETE" in script.read_text()


def test_an_unknown_shell_is_one_message(monkeypatch):
    monkeypatch.setenv("SHELL", "/bin/tcsh")
    done = CliRunner().invoke(main, ["completion"])
    assert done.exit_code == 2
    assert "can't complete in the shell 'tcsh'; name one of bash, zsh, fish" in done.stderr


def test_completing_imports_no_torch():
    code = (
        "import sys\nfrom click.shell_completion import ShellComplete\nfrom ovvol_bench.cli import main\n"
        "found = ShellComplete(main, {}, '', '').get_completions(['run', '--labeler'], 'pa')\n"
        "assert found, found\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("typed", "meant"), [("rnu", "run"), ("compair", "compare")])
def test_a_misspelt_command_is_suggested(typed, meant):
    done = CliRunner().invoke(main, [typed])
    assert done.exit_code == 2
    assert f"Did you mean '{meant}'?" in done.stderr
