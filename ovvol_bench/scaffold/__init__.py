"""New plugins: a small package of each kind, which installs, passes its tests, and is there to be changed."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from ovvol_bench.errors import SettingError
from ovvol_bench.files import write_text


def write_package(kind: str, name: str, folder: Path, trainable: bool = False) -> list[Path]:
    """Write a package with one component.

    Args:
        kind: encoder, grouper, labeler, dataset or metric.
        name: that the component is registered under, as ``my_method``; the package is called the same, with
            dashes.
        folder: that gets the package; must not exist or be empty.
        trainable: give it a recipe; of groupers.

    Returns:
        The files.

    Raises:
        SettingError: if the name can't be one of a Python module or is one of a module or package that is
            there, if the folder has content, or if another kind is to be trainable.
    """
    if trainable and kind != "grouper":
        raise SettingError(f"--trainable is for groupers; for a {kind} see docs/training.md, or leave it out")
    _check_name(name)
    _check_free(name)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingError(f"{folder} is there already; expected a new or empty folder. Choose one with --to")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    arguments = [f'"{name}"', f'"{name}.{kind}:{class_name}"', '"what it does, in a line"']
    if trainable:
        arguments.append(f'recipes={{"{name}": "{name}.recipe:{class_name}Recipe"}}')
    line = (
        f"- `src/{name}/recipe.py`: how it is trained. Try it: `ovvol-bench check {kind} {name} --recipe`\n"
    )
    words = {
        "kind": kind,
        "name": name,
        "package": name.replace("_", "-"),
        "class_name": class_name,
        "arguments": "\n        " + ",\n        ".join(arguments) + ",\n    "
        if trainable
        else ", ".join(arguments),
        "recipe_line": line if trainable else "",
    }
    which = f"trainable_{kind}" if trainable else kind
    files = {
        "pyproject.toml": "pyproject.toml",
        "README.md": "README.md",
        f"src/{name}/__init__.py": "entry.py",
        f"src/{name}/{kind}.py": f"{which}.py",
        f"tests/test_{name}.py": f"{which}_test.py",
    }
    if trainable:
        files[f"src/{name}/recipe.py"] = "recipe.py"
    return [_write(folder / place, template, words) for place, template in files.items()]


def _write(path: Path, template: str, words: Mapping[str, str]) -> Path:
    text = resources.files("ovvol_bench.scaffold").joinpath("templates", f"{template}.txt").read_text("utf-8")
    write_text(path, Template(text).substitute(words))
    return path


def _check_name(name: str) -> None:
    usable = re.fullmatch(r"[a-z][a-z0-9_]*", name) and not keyword.iskeyword(name)
    if not usable or name.startswith("ovvol_bench"):
        raise SettingError(
            f"'{name}' can't be the name of a component and its module; expected lower-case letters, digits "
            "and underscores, beginning with a letter, as in my_method"
        )


def _check_free(name: str) -> None:
    """Refuse the name of a module or package that the new one would hide or replace once it is installed."""
    package = name.replace("_", "-")
    if name in sys.stdlib_module_names:
        taken = "a module of Python itself"
    elif find_spec(name) is not None:
        taken = "a module that is installed already"
    elif any(metadata.distributions(name=package)):
        taken = f"the installed package {package}"
    else:
        return
    raise SettingError(
        f"'{name}' is {taken}, which the new one would hide or replace; choose another name, as in my_{name}"
    )
