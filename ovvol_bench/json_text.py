"""The one reader of JSON files: damaged and hostile ones are refused in one line."""

from __future__ import annotations

import gc
import json
import math
import re
from pathlib import Path
from typing import Any, NoReturn

from ovvol_bench.errors import DataError

_ESCAPED = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
"""Escapes that can stand for half a character or for NUL, of which neither can be in a name."""


def read_json(path: Path, strict: bool = False) -> Any:
    """Content of a JSON file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        strict: for files that this program writes, in which no byte order mark, NaN or infinity stands.
            Elsewhere a number that isn't finite is refused where its field is read, by its entry.

    Raises:
        DataError: if it can't be read, is cut off, nested too deeply, holds a key twice in one object, half
            a character (a lone surrogate) or NUL.
    """
    collecting = gc.isenabled()
    gc.disable()  # it would look again and again at millions of objects that are all in use
    try:
        if path.exists() and not path.is_file():  # a pipe or a device may never end
            raise OSError(0, "it is no regular file")
        text = path.read_bytes().decode("utf-8" if strict else "utf-8-sig")
        numbers: dict[str, Any] = {"parse_float": _finite, "parse_constant": _not_finite} if strict else {}
        content = json.loads(text, object_pairs_hook=_unique, **numbers)
        if _ESCAPED.search(text):
            _check_characters(content)
    except RecursionError:
        raise DataError(f"{path}: can't be read as JSON (it is nested too deeply). Write it again.") from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror or error}). Is it the right path?") from None
    except ValueError as error:
        raise DataError(
            f"{path}: can't be read as JSON ({str(error)[:300]}). Was it cut off? Write it again."
        ) from None
    finally:
        if collecting:
            gc.enable()
    return content


def shown(value: Any, most: int = 60) -> str:
    """A value of a file for a message, as JSON and cut to some characters."""
    try:
        text = "nothing" if value is None else json.dumps(value, default=repr)
    except (RecursionError, ValueError):
        text = f"a deeply nested {type(value).__name__}"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(twice)} is there twice in one object")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _not_finite(text)
    return value


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text[:20]} is no finite number")


def _check_characters(content: Any) -> None:
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value
        elif isinstance(value, str) and (
            "\0" in value or any("\ud800" <= each <= "\udfff" for each in value)
        ):
            raise ValueError(f"the text {shown(value)} has half a character (a lone surrogate) or NUL")
