"""JSON files that are there in full or not at all."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovvol_bench import json_text
from ovvol_bench.errors import DataError, OutputError
from ovvol_bench.files import in_utf8, write_text

_NUMBERS = re.compile(r"\[\s+-?\d[-+\d.eE,\s]*\]")


def json_ready(value: Any) -> Any:
    """Replace what JSON files can't hold, at any depth: NaN and infinity by None, bytes of names by escapes.

    What is hashed must be what a reader finds in the file, so it goes through here before.

    >>> json_ready({"ap": float("nan"), "per_class": [0.5, float("inf")]})
    {'ap': None, 'per_class': [0.5, None]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return in_utf8(value)
    if isinstance(value, Mapping):
        return {json_ready(key): json_ready(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(item) for item in value]
    return value


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader, or a run that is killed, sees the old file or the new one.

    A list of numbers stands in one line.
    """
    text = json.dumps(json_ready(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_text(path, _NUMBERS.sub(lambda found: " ".join(found[0].split()), text))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: if the file is missing, malformed or holds something other than an object.
    """
    value = json_text.read_json(path, strict=True)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found a {type(value).__name__}")
    return value


def ensure_writable(folder: Path) -> None:
    """Make the folder and try it, before hours of work end in a file that can't be written.

    Raises:
        OutputError: if it can't be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(
            f"can't write to the output folder {folder}: {error.strerror or error}. "
            "Choose another one with --output."
        ) from error
