"""Plugins of installed packages, told apart by their metadata alone."""

import os
import pickle
from pathlib import Path

import pytest

from ovvol_bench.errors import PluginError
from ovvol_bench.registry import load_registry
from ovvol_bench.registry.discovery import from_file, installed, restriction

PLUGIN = """
from ovvol_bench import Entry, hookimpl

@hookimpl
def ovvol_groupers():
    yield Entry("{name}", dict, "")
"""


def package(folder: Path, name: str, entry_point: str, module_text: str) -> None:
    """A package as pip leaves it: a module and its metadata."""
    info = folder / f"{name}-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[ovvol_bench]\n{entry_point} = {name}\n")
    (folder / f"{name}.py").write_text(module_text)


@pytest.fixture
def two_packages(tmp_path, monkeypatch):
    package(tmp_path, "stranger_a", "first", "from ovvol_bench import Entry, hookimpl\n"
            "@hookimpl\ndef ovvol_groupers():\n    yield Entry('alpha', lambda: 'built', 'a')\n")  # fmt: skip
    package(tmp_path, "stranger_b", "second", "import not_installed_anywhere\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("OVVOL_PLUGINS", raising=False)


@pytest.mark.usefixtures("two_packages")
def test_origin_and_version_come_from_the_metadata():
    found = load_registry().find("grouper", "alpha")
    assert found.origin == "stranger_a 2.5 (stranger_a)"
    assert found.version == "2.5"


@pytest.mark.usefixtures("two_packages")
def test_a_package_that_cannot_be_imported_is_kept_as_broken():
    broken = {origin: str(error) for origin, error in load_registry().broken}
    assert "No module named 'not_installed_anywhere'" in broken["stranger_b 2.5 (stranger_b)"]


@pytest.mark.usefixtures("two_packages")
def test_the_variable_restricts_by_entry_point(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "first, ")
    registry = load_registry()
    assert registry.names("grouper") == ["alpha"]
    assert registry.names("encoder") == []
    assert registry.broken == []


@pytest.mark.usefixtures("two_packages")
def test_an_empty_variable_loads_nothing(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "")
    assert restriction() == []
    assert installed(restriction()) == []


@pytest.mark.usefixtures("two_packages")
def test_a_restriction_to_what_is_not_installed_is_an_error(monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "frist")
    with pytest.raises(PluginError, match=r"plugin 'frist', which is not installed\. Did you mean 'first'"):
        load_registry()


def test_the_built_in_parts_register_through_entry_points():
    registry = load_registry()
    origins = {found.origin for found in [registry.find("encoder", "videomae")]}
    assert origins == {"ovvol-bench 0.1.0 (ovvol_plugins.videomae)"}


def test_classes_of_a_plugin_file_can_be_pickled(tmp_path):
    path = tmp_path / "holder.py"
    path.write_text("from dataclasses import dataclass\n@dataclass\nclass Held:\n    size: int\n")
    held = from_file(path).load().Held(3)
    assert pickle.loads(pickle.dumps(held)) == held


def test_a_plugin_file_must_be_python(tmp_path):
    path = tmp_path / "plugin.txt"
    path.write_text("x = 1")
    with pytest.raises(PluginError, match=r"ends in \.py"):
        load_registry([path], only=[])


def test_a_pipe_is_no_plugin_file_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "plugin.py")
    with pytest.raises(PluginError, match="Not a regular file"):
        from_file(tmp_path / "plugin.py")
