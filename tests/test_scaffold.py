"""New packages install, pass their own tests, and are found by the harness."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import ovvol_bench
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
    environment = installed(package, tmp_path)
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", package]
    ran = subprocess.run(tests, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry = load_registry(only=[name])
    assert registry.find(kind, name).origin == f"{package} 0.1.0 ({name})"
    if more:
        assert registry.recipe(kind, name).json_values({})["decoder_dim"] == 128


def installed(package, tmp_path):
    """Environment of a Python that has a package installed."""
    install = [sys.executable, "-m", "pip", "install", *OFFLINE, "--target", "site", f"./{package}"]
    subprocess.run(install, check=True, capture_output=True, cwd=tmp_path)
    return os.environ | {"PYTHONPATH": str(tmp_path / "site")}


def test_components_of_every_kind_fit_into_one_package_which_passes_strict_type_checks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(main, ["new", "metric", "a_kit"]).exit_code == 0
    asked = [[kind, f"my_{kind}"] for kind in KINDS] + [["grouper", "my_trained", "--trainable"]]
    for words in asked:
        done = CliRunner().invoke(main, ["new", *words, "--into", "a-kit"])
        assert done.exit_code == 0, done.output
    # mypy can't see an editable install that maps folders to other names: it is told the checkout.
    types = {"MYPYPATH": str(Path(ovvol_bench.__file__).parents[1])}
    checked = subprocess.run(
        [sys.executable, "-m", "mypy"],
        cwd="a-kit", env=os.environ | types, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    installed("a-kit", tmp_path)
    assert (tmp_path / "site" / "a_kit" / "py.typed").is_file()
    monkeypatch.syspath_prepend(tmp_path / "site")
    registry = load_registry(only=["a_kit"])
    assert {kind: registry.names(kind) for kind in KINDS} == {
        **{kind: [f"my_{kind}"] for kind in KINDS},
        "grouper": ["my_grouper", "my_trained"],
        "metric": ["a_kit", "my_metric"],
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no pyproject.toml there; expected the folder of a package"),
        ("[project]\nname = 'mine'\n", "no entry point of group ovvol_bench; add [project.entry-points"),
        ("[project.entry-points.ovvol_bench]\nmine = 'mine'\n", "names mine, which is no package in"),
    ],
)
def test_components_go_into_packages_of_plugins_only(content, message, tmp_path):
    if content is not None:
        (tmp_path / "pyproject.toml").write_text(content)
    done = CliRunner().invoke(main, ["new", "metric", "more", "--into", str(tmp_path)])
    assert done.exit_code == 2 and message in done.output


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        (
            "def ovvol_metrics():\n    return []\n",
            "ovvol_metrics returns its entries. Let it yield them, or add",
        ),
        ("def ovvol_metrics():\n    yield Entry('more', f, '')\n", "has an entry 'more' already"),
        ("def", "can't be read as Python"),
    ],
)
def test_hooks_that_take_no_further_entry_are_left_alone(hook, message, tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project.entry-points.ovvol_bench]\nmine = 'mine.plugin'\n")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "plugin.py").write_text(hook)
    done = CliRunner().invoke(main, ["new", "metric", "more", "--into", str(tmp_path)])
    assert done.exit_code == 2 and message in done.output
    assert (tmp_path / "mine" / "plugin.py").read_text() == hook
    assert not (tmp_path / "mine" / "more.py").exists()


def test_a_package_is_made_or_added_to_and_not_both(tmp_path):
    done = CliRunner().invoke(main, ["new", "metric", "more", "--into", "mine", "--to", str(tmp_path)])
    assert done.exit_code == 2 and "drop one of the two" in done.output


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
