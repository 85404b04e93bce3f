"""Names of classes that folders name by code: a file of codes and names.

A text file has a line a class, ``n01440764 tench, Tinca tinca``: the code, then its names, the usual one
first. A JSON file has an object, ``{"n01440764": "tench"}`` or with a list of names, or
``{"0": ["n01440764", "tench"]}`` as ImageNet's ``imagenet_class_index.json`` does.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json, read_text
from ovvol_bench.printing import control_problem

Names = tuple[str, ...]
"""Of one class, the usual one first."""


def read_class_names(source: Path) -> dict[str, Names]:
    """Names by code, see this module.

    Raises:
        DataError: if the file can't be read or is empty, or an entry has no name; says which.
    """
    try:
        names = (
            _of_json(read_json(source), source)
            if source.suffix.lower() == ".json"
            else _of_lines(read_text(source), source)
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"Class names {source} can't be read ({error}). Set dataset.names to a text or JSON file."
        ) from error
    if not names:
        raise DataError(f"Class names {source} is empty: expected a line a class, such as 'n01440764 tench'.")
    return names


def _of_lines(text: str, source: Path) -> dict[str, Names]:
    names: dict[str, Names] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        code, *rest = line.split(maxsplit=1)
        where = f"Class names {source}, line {number}"
        if code in names:
            raise DataError(f"{where}: '{code}' has names already. List every class once.")
        names[code] = _checked(rest[0].split(",") if rest else [], code, where)
    return names


def _of_json(content: Any, source: Path) -> dict[str, Names]:
    if not isinstance(content, dict):
        raise DataError(f'Class names {source}: expected an object, such as {{"n01440764": "tench"}}.')
    names = {}
    for key, value in content.items():
        values = [value] if isinstance(value, str) else value
        if not isinstance(values, list) or not all(isinstance(item, str) for item in values):
            raise DataError(f"Class names {source}, '{key}': expected a name or a list of names.")
        code, values = (values[0], values[1:]) if key.isdecimal() and len(values) > 1 else (key, values)
        names[code] = _checked(values, code, f"Class names {source}")
    return names


def _checked(values: list[str], code: str, where: str) -> Names:
    names = tuple(dict.fromkeys(name.strip() for name in values if name.strip()))
    if not names:
        raise DataError(
            f"{where}: '{code}' has no name. Expected the code and a name, such as '{code} tench'."
        )
    for text in (code, *names):
        if problem := control_problem(text):
            raise DataError(f"{where}: {problem}")
    return names
