"""Digests of the code that components are made of: changed code is another component."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from importlib.metadata import Distribution
from importlib.util import find_spec, resolve_name
from pathlib import Path

CODE = (".py", *EXTENSION_SUFFIXES)
CORE = "ovvol_bench"
PLUGINS = ("ovvol_plugins", "ovvol_baselines")
OUTSIDE = (
    "api", "cli", "metrics", "presets", "report", "results", "scaffold", "testing", "throughput", "training",
)  # fmt: skip
"""Folders of the core that no prediction depends on: they ask for runs, read results, or train."""

MOST_BYTES = 2**20
"""Largest file beside a plugin that counts as code: others are data, such as weights."""


def digest_of(files: Iterable[Path], root: Path) -> str:
    """Hash the content of files and their places below a folder.

    Returns:
        SHA-256, 64 hex digits.
    """
    digest = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        digest.update(f"{file.relative_to(root).as_posix()} {content}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


@cache
def core_code() -> str:
    """Hash the modules of the core that predictions depend on."""
    root = Path(__file__).parents[1]
    return digest_of(
        (file for file in _code_in(root) if file.relative_to(root).parts[0] not in OUTSIDE), root
    )


@cache
def code_of_module(name: str) -> str:
    """Hash a package by its import name, or a module that stands alone."""
    spec = find_spec(name)
    if spec is None:
        return ""
    if spec.submodule_search_locations:
        folders = [Path(folder) for folder in spec.submodule_search_locations]
        return combined(digest_of(_code_in(folder), folder) for folder in folders)
    file = Path(spec.origin or "")
    return digest_of([file], file.parent) if file.is_file() else ""


@cache
def code_of_imports(module: str, packages: tuple[str, ...]) -> str:
    """Hash a module and all that it imports from some packages, directly or not; nothing is imported.

    Args:
        module: import name.
        packages: import names; imports from elsewhere don't count.
    """
    files: dict[str, Path] = {}
    waiting = [module]
    inside = tuple(f"{top}." for top in packages)
    while waiting:
        name = waiting.pop()
        if name not in files and (file := source_file(name)):
            files[name] = file
            waiting += [each for each in _imported_by(file, name) if each.startswith(inside)]
    return combined(f"{name} {digest_of([file], file.parent)}" for name, file in sorted(files.items()))


def code_of_plugin(module: str, distribution: Distribution | None, component: str | None = None) -> str:
    """Hash an installed plugin: all that its distribution lets import.

    The harness's own plugins live in one distribution, whose core counts by itself. Of these it is the module
    of the component with what that imports, or the package of the plugin.

    Args:
        module: that the entry point names.
        distribution: that it belongs to; where it is installed to be edited, its files are found by import.
        component: module that an entry names by text, or None.
    """
    top = module.partition(".")[0]
    if distribution is None:
        return code_of_module(top)
    listed = (distribution.read_text("top_level.txt") or "").split()
    if CORE in listed:
        own = find_spec(module)
        is_package = own is not None and own.submodule_search_locations
        package = module if is_package else module.rpartition(".")[0]
        return code_of_imports(component, (*PLUGINS, package)) if component else code_of_module(package)
    files = {file.parts[0] for file in distribution.files or () if file.suffix == ".py"}
    # An editable install lists its finder, whose name holds the version; its modules are found by import.
    names = {name.removesuffix(".py") for name in files if not name.startswith("__editable__")}
    importable = sorted(name for name in {top, *listed, *names} if name.isidentifier())
    return combined(code_of_module(name) for name in importable)


def code_of_file(path: Path) -> str:
    """Hash a plugin file, the modules and files beside it that it names, and those that these name.

    They are found without being imported, as they may be imported only when they are needed: by every name
    that is imported, and every text that is the name of a module, a file or a folder of modules.

    Raises:
        OSError: if the file can't be read.
    """
    path = path.resolve()
    found, waiting = set(), [path]
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += _neighbours(file, path.parent) if file.suffix == ".py" else ()
    return digest_of(found, path.parent)


def source_file(module: str) -> Path | None:
    """Find the source of a module, importing nothing; None for a name in a module, and what is no Python."""
    top, *inner = module.split(".")
    spec = find_spec(top)  # of the top alone: else the packages above it would be imported
    places = [Path(folder, *inner) for folder in (spec and spec.submodule_search_locations) or ()]
    files = [file for place in places for file in (place / "__init__.py", place.with_suffix(".py"))]
    if not inner and spec and (spec.origin or "").endswith(".py"):
        files.append(Path(str(spec.origin)))  # a module that stands alone
    return next((file for file in files if file.is_file()), None)


def _imported_by(file: Path, module: str) -> Iterator[str]:
    """Modules that a module imports anywhere, and names in modules, which may be modules as well."""
    package = module if file.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(file.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            yield from (origin, *(f"{origin}.{alias.name}" for alias in node.names))


def combined(digests: Iterable[str]) -> str:
    """Hash several digests into one, in their order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def _code_in(folder: Path) -> Iterator[Path]:
    return (file for file in folder.rglob("*") if file.name.endswith(CODE) and file.is_file())


def _neighbours(file: Path, root: Path) -> Iterator[Path]:
    """Yield what a Python file names of its own folder, of the plugin's, and of folders that it names."""
    try:
        names = _names_in(ast.parse(file.read_bytes()))
    except (SyntaxError, ValueError, RecursionError):
        return  # says so itself when it is imported
    # A plugin file may put its own folder, or one that it names, on sys.path.
    folders = [file.parent, root]
    folders += [root / name for name in names if (root / name).is_dir()]
    for folder in dict.fromkeys(folders):
        for name in names:
            for found in (folder / name, folder / f"{name}.py"):
                if found.is_file() and (found.suffix == ".py" or found.stat().st_size <= MOST_BYTES):
                    yield found
            if (folder / name / "__init__.py").is_file():
                yield from _code_in(folder / name)


def _names_in(tree: ast.AST) -> set[str]:
    """Names that a module imports, dots as slashes, and its texts that could be names of files."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = f"{node.module}." if node.module else ""
            dotted = [module.rstrip("."), *(f"{module}{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 200:
            dotted = [node.value]
            names.add(node.value)
        else:
            continue
        for name in dotted:
            parts = name.split(".")
            names |= {"/".join(parts[: end + 1]) for end in range(len(parts))}
    usable = (name for name in names if name.strip("./ ") and "\0" not in name and ".." not in name)
    return {name for name in usable if not name.startswith(("/", "~"))}
