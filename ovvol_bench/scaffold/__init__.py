"""New plugins: a package with a component of any kind, or another component for a package that is there.

What is written installs, passes its tests and ``mypy --strict``, and is there to be changed.
"""

from __future__ import annotations

import ast
import keyword
import re
import sys
import tomllib
from importlib import metadata, resources
from importlib.util import find_spec
from pathlib import Path
from string import Template

from ovvol_bench.errors import SettingError
from ovvol_bench.files import below, read_text, write_text

TEMPLATES = resources.files("ovvol_bench.scaffold").joinpath("templates")


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
    _check_name(kind, name, trainable)
    package = name.replace("_", "-")
    taken = [
        (name in sys.stdlib_module_names, "a module of Python itself"),
        (find_spec(name) is not None, "a module that is installed already"),
        (any(metadata.distributions(name=package)), f"the installed package {package}"),
    ]
    if what := next((words for is_taken, words in taken if is_taken), None):
        raise SettingError(
            f"'{name}' is {what}, which the new one would hide or replace; choose another name, as in "
            f"my_{name}"
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise SettingError(f"{folder} is there already; expected a new or empty folder. Choose one with --to")
    component = Component(kind, name, f"{name}.{kind}", f"{name}.recipe" if trainable else "")
    source = f"src/{name}"
    files = {
        "pyproject.toml": component.filled("pyproject.toml"),
        "README.md": component.filled("README.md"),
        f"{source}/__init__.py": component.filled("entry.py"),
        f"{source}/py.typed": "",
        **component.files("src"),
    }
    for place, text in files.items():
        write_text(folder / place, text)
    return [folder / place for place in files]


def add_component(kind: str, name: str, package: Path, trainable: bool = False) -> list[Path]:
    """Add a component to the package of a plugin: its module, a test, and an entry in the plugin's hook.

    Args:
        kind: as for `write_package`.
        name: that the component is registered under; its module is called the same.
        package: folder with a ``pyproject.toml`` that names an entry point of group ``ovvol_bench``.
        trainable: as for `write_package`.

    Returns:
        The files that were written or changed.

    Raises:
        SettingError: if the name can't be one, the folder holds no plugin, a file is there already, or the
            hook can't take a further ``yield``.
    """
    _check_name(kind, name, trainable)
    plugin, root = _plugin_of(package)
    above = plugin.parent.relative_to(package / root).as_posix().replace("/", ".")
    component = Component(kind, name, f"{above}.{name}", f"{above}.{name}_recipe" if trainable else "")
    files = component.files(root)
    for place in files:
        if (package / place).exists():
            raise SettingError(f"{package / place} is there already; choose another name for the {kind}")
    files[plugin.relative_to(package).as_posix()] = component.registered_in(plugin)
    for place, text in files.items():
        write_text(package / place, text)
    return [package / place for place in files]


class Component:
    """A component to be written from the templates of its kind.

    Args:
        kind: as for `write_package`.
        name: that it is registered under.
        module: import name of its module.
        recipe: import name of its recipe's module; empty for none.
    """

    def __init__(self, kind: str, name: str, module: str, recipe: str = "") -> None:
        class_name = "".join(part.capitalize() for part in name.split("_"))
        arguments = [f'"{name}"', f'"{module}:{class_name}"', '"what it does, in a line"']
        if recipe:
            arguments.append(f'recipes={{"{name}": "{recipe}:{class_name}Recipe"}}')
        self.kind, self.name, self.module, self.recipe = kind, name, module, recipe
        self.entry = ", ".join(arguments)
        if len(self.entry) > 90:  # as ruff and black break it
            self.entry = "\n        " + ",\n        ".join(arguments) + ",\n    "
        self._words = {
            "kind": kind,
            "name": name,
            "package": name.replace("_", "-"),
            "class_name": class_name,
            "module": module,
            "arguments": self.entry,
            "recipe_line": "",
        }
        if recipe:
            self._words["recipe_line"] = (
                f"- `src/{name}/recipe.py`: how it is trained. "
                f"Try it: `ovvol-bench check {kind} {name} --recipe`\n"
            )

    def filled(self, template: str) -> str:
        """Fill in a template."""
        return Template(TEMPLATES.joinpath(f"{template}.txt").read_text("utf-8")).substitute(self._words)

    def files(self, root: str) -> dict[str, str]:
        """Return the texts of its modules and its test by their places in the package.

        Args:
            root: folder of the modules, as ``src``.
        """
        which = f"trainable_{self.kind}" if self.recipe else self.kind
        places = {self.module: which} | ({self.recipe: "recipe"} if self.recipe else {})
        modules = {
            "/".join([root, *module.split(".")]) + ".py": self.filled(f"{template}.py")
            for module, template in places.items()
        }
        return {**modules, f"tests/test_{self.name}.py": self.filled(f"{which}_test.py")}

    def registered_in(self, plugin: Path) -> str:
        """Return a plugin's source with the component in the hook of its kind, which is added if missing.

        Raises:
            SettingError: if it is no Python, or the hook has an entry of that name or returns its entries.
        """
        try:
            text = read_text(plugin)
            tree = ast.parse(text)
        except (SyntaxError, ValueError) as error:
            raise SettingError(f"{plugin}: can't be read as Python ({error})") from error
        lines, hook, further = text.splitlines(), f"ovvol_{self.kind}s", f"Entry({self.entry})"
        for node in tree.body:
            if not isinstance(node, ast.FunctionDef) or node.name != hook:
                continue
            if any(isinstance(each, ast.Constant) and each.value == self.name for each in ast.walk(node)):
                raise SettingError(
                    f"{plugin}: {hook} has an entry '{self.name}' already; choose another name"
                )
            if isinstance(node.body[-1], ast.Return):
                raise SettingError(
                    f"{plugin}: {hook} returns its entries. Let it yield them, or add by hand: {further}"
                )
            lines.insert(node.end_lineno or len(lines), f"    yield {further}")
            return "\n".join(lines) + "\n"
        bound = {each.asname or each.name for each in ast.walk(tree) if isinstance(each, ast.alias)}
        needed = {"Iterator": "collections.abc", "Entry": "ovvol_bench", "hookimpl": "ovvol_bench"}
        # Below the last import, or the docstring; `from __future__` must stay first.
        above = [each for each in tree.body if isinstance(each, ast.Import | ast.ImportFrom)] or tree.body[:1]
        place = max((each.end_lineno or 0 for each in above), default=0)
        lines[place:place] = [f"from {needed[word]} import {word}" for word in needed if word not in bound]
        entry = self.filled("entry.py")
        return "\n".join([*lines, "", "", entry[entry.index("@hookimpl") :]])


def _plugin_of(package: Path) -> tuple[Path, str]:
    """Return the module that a package's first entry point names, and the folder of its modules."""
    project = package / "pyproject.toml"
    if not project.is_file():
        raise SettingError(f"--into {package}: no pyproject.toml there; expected the folder of a package")
    try:
        points = tomllib.loads(read_text(project))["project"]["entry-points"]["ovvol_bench"]
    except (ValueError, KeyError, TypeError):
        points = None
    if not isinstance(points, dict) or not points:
        raise SettingError(
            f"{project}: no entry point of group ovvol_bench; add [project.entry-points.ovvol_bench] and a "
            'line such as mine = "my_package"'
        )
    module = str(next(iter(points.values())))
    for root in ("src", "."):
        place = below(package / root, *module.split("."))
        for plugin in (place / "__init__.py", place.with_suffix(".py")):
            if plugin.is_file() and plugin.parent != package / root:
                return plugin, root
    raise SettingError(f"{project} names {module}, which is no package in {package / 'src'} or {package}")


def _check_name(kind: str, name: str, trainable: bool) -> None:
    if trainable and kind != "grouper":
        raise SettingError(f"--trainable is for groupers; for a {kind} see docs/training.md, or leave it out")
    usable = re.fullmatch(r"[a-z][a-z0-9_]*", name) and not keyword.iskeyword(name)
    if not usable or name.startswith("ovvol_bench"):
        raise SettingError(
            f"'{name}' can't be the name of a component and its module; expected lower-case letters, digits "
            "and underscores, beginning with a letter, as in my_method"
        )
