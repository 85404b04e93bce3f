"""Files that appear in full or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ovvol_bench.errors import SettingError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path``, of the same suffix, that takes its place at the end.

    If the body raises, the temporary file goes and ``path`` stays as it was.

    Raises:
        SettingError: if the folder can't be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        raise SettingError(
            f"can't write {path}: {error.strerror or error}. Choose another folder."
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Raises:
        SettingError: if the folder can't be made or written to.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
