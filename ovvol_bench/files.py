"""Files that appear in full or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from ovvol_bench.errors import SettingError

OTHER_FILES = 128  # libraries, the decoder's pipes, a prediction file that is written


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of ``path`` at the end.

    It has the same name, from which encoders tell the format, in a folder of its own. If the body
    raises, ``path`` stays as it was.

    Raises:
        SettingError: if the folder of ``path`` can't be made or written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-")
    except OSError as error:
        raise SettingError(
            f"can't write {path}: {error.strerror or error}. Choose another folder."
        ) from error
    with folder:
        temporary = Path(folder.name, path.name)
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)


def require_file(path: Path) -> Path:
    """The same path, if it is a regular file: reading a pipe or a device may never end.

    Raises:
        OSError: if there is nothing, or something else than a file.
        ValueError: if the name can't be one.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        code = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(code, "Is a directory" if stat.S_ISDIR(mode) else "Not a regular file", str(path))
    return path


def read_text(path: Path) -> str:
    """UTF-8 text of a file, without the byte order mark that some programs begin it with.

    Raises:
        OSError: if it can't be read, or is no regular file.
        ValueError: if it is no UTF-8, or the name can't be one.
    """
    return require_file(path).read_text(encoding="utf-8-sig")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Raises:
        SettingError: if the folder can't be made or written to.
    """
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def make_room_for(files: int) -> None:
    """Let this process hold so many files open beside what else it needs, as far as the system allows.

    Raises:
        SettingError: if the system's limit is lower.
    """
    needed = files + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SettingError(
            f"{files} runs at once hold {files} lock files open, and this process may open {hard} files. "
            "Raise the limit (ulimit -Hn), or run a part of the matrix at a time."
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


@contextmanager
def claimed(lock: Path, advice: str) -> Iterator[None]:
    """Hold a file for this process; the system lets go of it even if the process is killed.

    Args:
        lock: an empty file of its own, made if missing, in a folder that is there.
        advice: what to do while another process holds it, after "Wait for it, or".

    Raises:
        SettingError: if another process holds it.
    """
    with lock.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise SettingError(
                f"{lock.parent} is being written by another process (pid {file.read().strip()}). "
                f"Wait for it, or {advice}."
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
