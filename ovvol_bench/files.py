"""Files that appear in full or not at all, and folders that one process holds at a time."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import re
import resource
import shutil
import socket
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from ovvol_bench.errors import DataError, OutputError, SettingError

OTHER_FILES = 128  # libraries, the decoder's pipes, a prediction file that is written
HEARTBEAT = 30.0  # seconds between signs of life of a lock file's holder
SILENCE = 10 * HEARTBEAT  # after which a holder on another machine counts as gone: clocks differ by less
_LONGEST = 240  # bytes of a part of a path, with room for an ending: file systems take 255
_LEFTOVER = ".unfinished-"
_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EIO}
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write into one line that names the file.

    Only failures of writing: a full disk wherever it shows, and what the system refuses at ``path``, above it
    or where it is being written. An input that can't be read inside of the body stays an error of its own.

    Raises:
        OutputError: names ``path``, the system's reason and what to do.
    """
    try:
        yield
    except OSError as error:
        names = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name is not None]
        own = any(name in (path, *path.parents) or is_leftover(name) for name in names)
        if error.errno not in _NO_ROOM and not own:
            raise
        raise OutputError(unwritable(path, error)) from error


def unwritable(path: Path, error: OSError) -> str:
    """The message of an output that can't be written."""
    advice = {
        errno.ENOSPC: "Free some space there, or choose another folder.",
        errno.EDQUOT: "Free some of your quota, or choose another folder.",
        errno.EMFILE: "Raise the limit of open files (ulimit -n).",
        errno.ENFILE: "Raise the system's limit of open files.",
    }
    what = advice.get(error.errno or 0, "Choose another folder.")
    return f"can't write {path}: {error.strerror or error}. {what}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file that takes the place of ``path`` at the end.

    It has the same name, from which encoders tell the format, in a folder of its own. If the body
    raises, ``path`` stays as it was. What a killed process left unfinished beside ``path`` is removed.

    Raises:
        OutputError: if it can't be written: the disk is full, the folder read-only or a file.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        folder = Path(mkdtemp(dir=path.parent, prefix=f"{_LEFTOVER}{socket.gethostname()}-{os.getpid()}-"))
        try:
            temporary = folder / path.name
            yield temporary
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@cache  # a folder is searched once a process: shards are added to it by the thousand
def remove_leftovers(folder: Path) -> None:
    """Remove what processes that were killed left unfinished in a folder."""
    for found in folder.glob(f"{_LEFTOVER}*"):
        made = re.fullmatch(rf"{re.escape(_LEFTOVER)}(.+)-(\d+)-\w+", found.name)
        if made and not _is_alive(made[1], int(made[2]), found):  # else it is somebody else's
            shutil.rmtree(found, ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Whether a path lies in what was not finished: nothing there is a result of anything."""
    return any(part.startswith(_LEFTOVER) for part in path.parts)


def _is_alive(host: str, pid: int, trace: Path) -> bool:
    """Whether a process lives; on another machine, whether its trace was touched lately."""
    if host == socket.gethostname():
        try:
            os.kill(pid, 0)  # asks, and sends nothing
        except ProcessLookupError:
            return False
        except PermissionError:  # of another user
            pass
        return True
    with suppress(FileNotFoundError):
        return time.time() - trace.stat().st_mtime < SILENCE
    return False


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


def in_utf8(name: str) -> str:
    r"""Return a name as files and results can hold it: bytes that are no UTF-8 are written out.

    >>> in_utf8("caf\udce9")
    'caf\\xe9'
    """
    if name.isascii():
        return name
    try:
        content = name.encode(errors="surrogateescape")
    except UnicodeEncodeError:  # half a character, which is no byte of a file's name
        content = name.encode(errors="backslashreplace")
    return content.decode(errors="backslashreplace")


def require_utf8(names: Iterable[str], folder: Path) -> None:
    """Refuse names of videos that results, digests and files of other programs can't hold.

    Args:
        names: of files or folders.
        folder: that they lie in, for messages.

    Raises:
        DataError: says how many names are not UTF-8, and the first.
    """
    if odd := [name for name in names if in_utf8(name) != name]:
        raise DataError(
            f"{in_utf8(str(folder))}: {len(odd)} names there are not UTF-8, first: {in_utf8(odd[0])}. Rename "
            "them; a video is called by its name in results."
        )


def is_utf8(path: Path) -> bool:
    """Whether libraries in C can be given a path; OpenCV ends the process over one that is no UTF-8."""
    try:
        os.fspath(path.absolute()).encode()
    except UnicodeEncodeError:
        return False
    return True


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically.

    Raises:
        OutputError: if it can't be written.
    """
    with replacing(path) as temporary:
        # Bytes of names that are no UTF-8 are lone surrogates: written out, with a backslash that JSON keeps.
        plain = re.sub("[\ud800-\udfff]", lambda found: f"\\\\u{ord(found[0]):04x}", text)
        temporary.write_text(plain, encoding="utf-8")


def below(root: Path, *names: str) -> Path:
    """Where a file belongs below a folder whose name comes from data, as the name of a video does.

    Args:
        root: the folder, chosen by the user.
        names: from data; each may have several parts with "/" between.

    Raises:
        OutputError: if a name would lead out of ``root``, or can't be a file's: it is absolute, has empty,
            ".", ".." or overlong parts, or characters that can't be printed.
    """
    parts = [part for name in names for part in name.split("/")]
    for part in parts:
        if part in ("", ".", "..") or not part.isprintable() or len(os.fsencode(part)) > _LONGEST:
            shown = ascii("/".join(names))[:80]
            raise OutputError(
                f"can't write below {root}: {shown} is no name of a file there; "
                "expected parts without '..', of printable characters, at most 240 bytes each. Rename it in "
                "the data."
            )
    return root.joinpath(*parts)


def file_stem(name: str) -> str:
    """A name from data as one part of a path: what isn't a letter, digit, ".", "-", "@" or "_" becomes "_".

    >>> file_stem("../a b")
    '.._a_b'
    """
    stem = re.sub(r"[^\w.@-]+", "_", name)
    if len(stem.encode()) <= 200:  # bytes; leaves room for an ending
        return stem
    return f"{stem.encode()[:180].decode(errors='ignore')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def make_folder(path: Path) -> None:
    """Make a folder to write into, and those above it.

    Raises:
        OutputError: if it can't be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)


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
    """Hold a file for this process; it is let go even if the process is killed.

    The system's lock where the file system has one. Elsewhere, as on some Lustre, NFS and GPFS mounts, a
    second file ``LOCK.held`` with host and process id, made only if it is not there, whose holder touches
    it every 30 seconds: it counts as left behind if that process is gone, or silent for five minutes.

    Args:
        lock: an empty file of its own; it and its folder are made if missing.
        advice: what to do while another process holds it, after "Wait for it, or".

    Raises:
        SettingError: if another process holds it.
        OutputError: if the file can't be made.
    """
    with writing(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("ab+", buffering=0)  # nothing is left to be written when it is closed
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise _taken(lock, file.read().decode(), advice) from error
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                raise OutputError(unwritable(lock, error)) from error
            with _held(lock, advice):
                yield
            return
        with writing(lock):
            file.truncate(0)
            file.write(f"{os.getpid()}\n".encode())
        yield


def _taken(lock: Path, holder: str, advice: str) -> SettingError:
    return SettingError(
        f"{lock.parent} is being written by another process (pid {holder.strip()}). Wait for it, or {advice}."
    )


@contextmanager
def _held(lock: Path, advice: str) -> Iterator[None]:
    """Hold a lock by a file that only one process can make."""
    held = lock.with_name(f"{lock.name}.held")
    mine = f"{os.getpid()} on {socket.gethostname()}"
    for last in (False, True):
        try:
            with held.open("x") as file:
                file.write(mine)
            break
        except FileExistsError:
            holder = held.read_text() if held.exists() else ""
            pid, _, host = holder.partition(" on ")
            if last or not pid.isdigit() or _is_alive(host, int(pid), held):
                raise _taken(lock, holder, advice) from None
            held.unlink(missing_ok=True)
    released = threading.Event()

    def beat() -> None:
        while not released.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(held)

    threading.Thread(target=beat, daemon=True).start()
    try:
        yield
    finally:
        released.set()
        held.unlink(missing_ok=True)
