"""The folders are the architecture: which module may import which, read from the source."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = {"ovvol_bench": "ovvol_bench", "ovvol_plugins": "plugins", "ovvol_baselines": "baselines"}

LAYERS = (
    ("arrays", "errors"),
    (
        "fidelity",
        "files",
        "progress",
        "tuning",
        "locks",
        "printing",
        "masks",
        "parallel",
        "types",
        "registry",
        "naming.vocabulary",
        "results.schema",
        "results.machine",
    ),
    (
        "predictions",
        "detections",
        "data.base",
        "components",
        "nn",
        "weights",
    ),
    ("naming", "nn.clip", "data", "metrics", "formats"),
    ("pipeline",),
    ("runs", "training", "throughput"),
    ("results",),
    ("report", "testing", "scaffold"),
    ("api",),
    ("cli", "__main__"),
)
"""Parts of ovvol_bench from the bottom up: a part imports from its own layer and from lower ones."""

HEAVY = {
    "torch",
    "torchvision",
    "timm",
    "open_clip",
    "cv2",
    "decord",
    "pandas",
    "scipy",
    "sklearn",
    "matplotlib",
}
TORCH = {"torch", "torchvision", "timm", "open_clip"}
LATER = {"accelerate", "av", "pyarrow", "pycocotools", "tabulate", "tensorboard"}


@dataclass(frozen=True)
class Import:
    """One imported module or name, absolute, and where the statement stands."""

    importer: str
    target: str
    line: int
    in_function: bool
    for_types: bool

    def __str__(self) -> str:
        return f"{self.importer} line {self.line} imports {self.target}"


class Collector(ast.NodeVisitor):
    """All imports of one module, those in functions and for type checkers marked."""

    def __init__(self, module: str, is_package: bool) -> None:
        self.module, self.is_package = module, is_package
        self.functions = self.type_blocks = 0
        self.found: list[Import] = []

    def visit_FunctionDef(self, node):
        self.functions += 1
        self.generic_visit(node)
        self.functions -= 1

    def visit_If(self, node):
        for_types = "TYPE_CHECKING" in ast.unparse(node.test)
        self.type_blocks += for_types
        self.generic_visit(node)
        self.type_blocks -= for_types

    def visit_Import(self, node):
        for alias in node.names:
            self.add(alias.name, node)

    def visit_ImportFrom(self, node):
        base = ".".join([*self.parents(node.level), *([node.module] if node.module else [])])
        for alias in node.names:
            self.add(f"{base}.{alias.name}", node)

    def parents(self, level: int) -> list[str]:
        parts = self.module.split(".")
        return parts[: len(parts) - level + self.is_package] if level else []

    def add(self, target: str, node: ast.stmt) -> None:
        self.found.append(Import(self.module, target, node.lineno, self.functions > 0, self.type_blocks > 0))


def imports_of(package: str) -> Iterator[Import]:
    folder = ROOT / PACKAGES[package]
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        module = ".".join([package, *(parts[:-1] if is_package else parts)])
        collector = Collector(module, is_package)
        collector.visit(ast.parse(path.read_text(), str(path)))
        yield from collector.found


CORE = list(imports_of("ovvol_bench"))


def core_part(target: str) -> str:
    """A core module without the package's name; empty for the package itself and its public names."""
    return target.removeprefix("ovvol_bench").removeprefix(".")


def starts(dotted: str, *prefixes: str) -> bool:
    return any(dotted == prefix or dotted.startswith(f"{prefix}.") for prefix in prefixes)


def layer(module: str) -> int:
    """Position of a core module in `LAYERS`; the more exact name counts."""
    names = [
        (len(name), level) for level, names in enumerate(LAYERS) for name in names if starts(module, name)
    ]
    assert names, f"ovvol_bench.{module} has no place in LAYERS: add it where it belongs"
    return max(names)[1]


def of_core(part: str) -> list[Import]:
    return [found for found in CORE if starts(core_part(found.importer), part)]


def test_imports_point_down():
    within = [found for found in CORE if starts(found.target, "ovvol_bench") and core_part(found.importer)]
    wrong = [found for found in within if layer(core_part(found.target)) > layer(core_part(found.importer))]
    assert not wrong, "\n".join(map(str, wrong))


def test_the_core_imports_its_modules_and_not_its_front_door():
    names = {name for layer_names in LAYERS for name in layer_names}
    wrong = [
        found
        for found in CORE
        if starts(found.target, "ovvol_bench") and not starts(core_part(found.target), *names)
    ]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("package", ["ovvol_plugins", "ovvol_baselines"])
def test_the_core_imports_no_plugin(package):
    wrong = [found for found in CORE if starts(found.target, package)]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("package", ["ovvol_plugins", "ovvol_baselines"])
def test_plugins_import_what_a_stranger_may_import(package):
    import ovvol_bench

    public = (*map(core_part, ovvol_bench.PLUGIN_API), *ovvol_bench.__all__)
    wrong = [
        found
        for found in imports_of(package)
        if starts(found.target, "ovvol_bench") and not starts(core_part(found.target), *public)
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_plugins_do_not_import_each_other():
    wrong = [
        found
        for found in imports_of("ovvol_plugins")
        if starts(found.target, "ovvol_plugins")
        and len(found.importer.split(".")) > 2
        and not starts(found.target, ".".join(found.importer.split(".")[:2]))
    ]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize(
    "part", ["registry", "metrics", "formats", "errors", "types", "naming.vocabulary", "data.base"]
)
def test_some_parts_import_no_torch_at_all(part):
    wrong = [found for found in of_core(part) if starts(found.target, *TORCH) and not found.for_types]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("part", ["api", "cli", "data"])
def test_some_parts_import_torch_only_where_they_use_it(part):
    at_load = [found for found in of_core(part) if not found.in_function and not found.for_types]
    wrong = [found for found in at_load if starts(found.target, *TORCH)]
    assert not wrong, "\n".join(map(str, wrong))


@pytest.mark.parametrize("arguments", [["--help"], ["plugins"], ["show", "encoder", "videomae"]])
def test_light_commands_load_no_heavy_library(arguments):
    script = (
        "import sys\n"
        "from ovvol_bench.cli import main\n"
        f"main({arguments!r}, standalone_mode=False)\n"
        f"print('LOADED', *sorted({HEAVY!r} & sys.modules.keys()))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1].strip() == "LOADED"


def test_importing_the_package_loads_no_heavy_library():
    script = f"import sys, ovvol_bench; print(sorted({HEAVY!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


FIRST_CLIP = f"""
import os, sys
from ovvol_bench import hookimpl

@hookimpl
def ovvol_clip_localized(localization, clip):
    print('LOADED', *sorted({HEAVY | LATER!r} & sys.modules.keys()), flush=True)
    os.kill(os.getpid(), 9)
"""


def test_a_run_loads_nothing_before_its_first_clip_that_only_scoring_or_reports_need(tmp_path):
    plugin = tmp_path / "first_clip.py"
    plugin.write_text(FIRST_CLIP)
    command = (sys.executable, "-m", "ovvol_bench", "run", "--limit", "1", "--output", tmp_path / "runs")
    result = subprocess.run([*command, "--plugin", plugin], capture_output=True, text=True, check=False)
    assert result.returncode == -9, result.stderr
    _, *loaded = result.stdout.splitlines()[-1].split()
    # timm and torchvision come with open_clip, OpenCV renders the default dataset.
    assert set(loaded) == TORCH | {"cv2"}


def test_dir_shows_the_public_names_and_each_of_them_loads():
    import ovvol_bench

    assert dir(ovvol_bench) == sorted({"PLUGIN_API", "__version__", *ovvol_bench.__all__})
    assert [name for name in dir(ovvol_bench) if getattr(ovvol_bench, name, None) is None] == []
