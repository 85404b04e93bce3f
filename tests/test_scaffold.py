"""New packages install, pass their own tests, and are found by the harness."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.registry import KINDS, load_registry

OFFLINE = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]


@pytest.mark.parametrize(("kind", "more"), [*((kind, []) for kind in KINDS), ("grouper", ["--trainable"])])
def test_a_new_package_installs_and_passes(kind, more, tmp_path, monkeypatch):
    name = f"my_{kind}" + "_trained" * len(more)
    package = name.replace("_", "-")
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["new", kind, name, *more])
    assert done.exit_code == 0, done.output
    install = [sys.executable, "-m", "pip", "install", *OFFLINE, "--target", "site", f"./{package}"]
    subprocess.run(install, check=True, capture_output=True)
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", package]
    ran = subprocess.run(tests, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry = load_registry(only=[name])
    assert registry.find(kind, name).origin == f"{package} 0.1.0 ({name})"
    if more:
        assert registry.recipe(kind, name).json_values({})["decoder_dim"] == 128


def test_only_groupers_come_with_a_recipe(tmp_path):
    done = CliRunner().invoke(main, ["new", "metric", "mine", "--trainable", "--to", str(tmp_path / "mine")])
    assert done.exit_code == 2 and "--trainable is for groupers" in done.output
    assert not (tmp_path / "mine").exists()


def test_a_folder_with_content_is_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    done = CliRunner().invoke(main, ["new", "grouper", "mine", "--to", str(tmp_path)])
    assert done.exit_code == 2
    assert "expected a new or empty folder" in done.output
    assert list(tmp_path.iterdir()) == [tmp_path / "notes.txt"]


@pytest.mark.parametrize("name", ["My-Grouper", "2fast", "class", "ovvol_bench"])
def test_names_that_are_no_modules_are_refused(name, tmp_path):
    done = CliRunner().invoke(main, ["new", "grouper", name, "--to", str(tmp_path / "new")])
    assert done.exit_code == 2
    assert "as in my_method" in done.output
    assert not Path(tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("os", "a module of Python itself"),
        ("torch", "a module that is installed already"),
        ("scikit_learn", "the installed package scikit-learn"),  # its module is called sklearn
    ],
)
def test_names_of_what_is_installed_are_refused(name, taken, tmp_path):
    done = CliRunner().invoke(main, ["new", "grouper", name, "--to", str(tmp_path / "new")])
    assert done.exit_code == 2
    assert f"'{name}' is {taken}" in done.output
    assert not Path(tmp_path / "new").exists()
