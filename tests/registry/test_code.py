"""Digests of code: whatever a component is made of counts, and nothing else."""

import ast
from pathlib import Path

import pytest

import ovvol_bench
from ovvol_bench.registry import code, load_registry
from ovvol_bench.registry.code import OUTSIDE, code_of_file, combined, core_code

HOOK = """
from ovvol_bench import Entry, hookimpl

def build(): ...

@hookimpl
def ovvol_groupers():
    yield Entry("own", build, "")
"""


@pytest.fixture(autouse=True)
def _forget():
    """Digests are kept for the life of a process; tests change files in it."""
    _forget_code()


def _forget_code():
    for kept in (code.code_of_module, code.code_of_imports, code.core_code):
        kept.cache_clear()


@pytest.mark.parametrize(
    ("line", "neighbour"),
    [
        ("import beside", "beside.py"),
        ("def build():\n    from beside import SHIFT", "beside.py"),
        ("import beside.deep", "beside/deep.py"),
        ("from beside import deep", "beside/deep.py"),
        ("import importlib; importlib.import_module('beside')", "beside.py"),
        ("import sys; sys.path.insert(0, 'lib')\nimport beside", "lib/beside.py"),
        ("TABLE = 'table.json'", "table.json"),
    ],
)
def test_what_a_plugin_file_names_beside_it_counts(tmp_path, line, neighbour):
    plugin, other = tmp_path / "plugin.py", tmp_path / neighbour
    plugin.write_text(line)
    other.parent.mkdir(exist_ok=True)
    other.write_text("SHIFT = 0")
    before = code_of_file(plugin)
    (tmp_path / "unrelated.py").write_text("SHIFT = 1")
    assert code_of_file(plugin) == before
    other.write_text("SHIFT = 5")
    assert code_of_file(plugin) != before


def test_neighbours_of_neighbours_count_and_circles_end(tmp_path):
    for name, other in (("plugin", "near"), ("near", "far"), ("far", "plugin")):
        (tmp_path / f"{name}.py").write_text(f"import {other}")
    before = code_of_file(tmp_path / "plugin.py")
    (tmp_path / "far.py").write_text("import plugin as changed")
    assert code_of_file(tmp_path / "plugin.py") != before


def test_where_a_plugin_file_lies_does_not_count(tmp_path):
    digests = set()
    for folder in (tmp_path / "here", tmp_path / "there"):
        folder.mkdir()
        (folder / "plugin.py").write_text("import beside")
        (folder / "beside.py").write_text("")
        digests.add(code_of_file(folder / "plugin.py"))
    assert len(digests) == 1


def test_the_modules_of_an_installed_plugin_count_though_its_version_stays(tmp_path, monkeypatch):
    info, package = tmp_path / "stranger_x-1.0.dist-info", tmp_path / "stranger_x"
    info.mkdir()
    package.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger_x\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ovvol_bench]\nown = stranger_x\n")
    (package / "__init__.py").write_text(HOOK)
    (package / "model.py").write_text("SHIFT = 0")
    monkeypatch.syspath_prepend(tmp_path)
    before = load_registry(only=["own"]).find("grouper", "own").code
    (package / "model.py").write_text("SHIFT = 5")
    code.code_of_module.cache_clear()
    assert load_registry(only=["own"]).find("grouper", "own").code != before


def test_built_in_components_of_different_packages_have_different_code():
    registry = load_registry()
    names = [("encoder", "videomae"), ("encoder", "pixels"), ("grouper", "grid"), ("dataset", "shapes")]
    assert len({registry.find(*name).code for name in names} | {core_code()}) == 5
    assert registry.find("encoder", "random").code != registry.find("encoder", "pixels").code


def test_parts_that_one_of_our_plugins_takes_from_another_count_for_both(monkeypatch):
    counted = []
    monkeypatch.setattr(code, "digest_of", lambda files, root: counted.extend(files) or "")
    assert load_registry().find("grouper", "dinosaur").code
    assert {"dinosaur.py", "linking.py", "model.py"} <= {file.name for file in counted}


def test_a_module_counts_with_what_it_imports_of_the_packages_and_nothing_else(tmp_path, monkeypatch):
    package = tmp_path / "own_parts"
    package.mkdir()
    texts = {
        "__init__": "",
        "model": "import torch\nfrom own_parts.near import NAME\nfrom . import beside\n",
        "near": "def late():\n    from .far import FAR\nNAME = 1\n",
        "far": "import own_parts.model\nFAR = 1\n",
        "beside": "",
        "other": "",
    }
    for name, text in texts.items():
        (package / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)

    def digest():
        code.code_of_imports.cache_clear()
        return code.code_of_imports("own_parts.model", ("own_parts",))

    seen = [digest()]
    for name in ("model", "near", "far", "beside"):
        (package / f"{name}.py").write_text(texts[name] + "# changed\n")
        seen.append(digest())
    assert len(set(seen)) == 5
    (package / "other.py").write_text("# changed\n")
    assert digest() == seen[-1]


def test_a_built_in_component_is_the_code_that_its_module_imports():
    registry = load_registry()
    parts = code.code_of_imports("ovvol_baselines.groupers.kmeans", code.PLUGINS)
    assert registry.find("grouper", "kmeans").code == combined([parts])
    assert registry.find("grouper", "grid").code != registry.find("grouper", "kmeans").code


def test_predictions_depend_on_nothing_that_is_left_out_of_the_core():
    root = Path(ovvol_bench.__file__).parent
    folders = ("registry", "naming", "nn", "data")
    files = [file for folder in folders for file in (root / folder).rglob("*.py")]
    files += [root / f"{name}.py" for name in ("pipeline", "components", "types", "masks")]
    for file in files:
        imports = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)]
        imported = {(node.module or "").removeprefix("ovvol_bench.").partition(".")[0] for node in imports}
        assert not imported & set(OUTSIDE), file
