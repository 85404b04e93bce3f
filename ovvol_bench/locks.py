"""Folders that one process holds at a time.

Own code, and not filelock: its native lock doesn't say who holds it, so that a file of our own would stand
beside it, and a lock with a sign of life for file systems without flock (SoftFileLease) is in its latest
versions only, while torch, which brings filelock, takes any.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ovvol_bench.errors import OutputError, SettingError
from ovvol_bench.files import HEARTBEAT, is_alive, unwritable, writing

OTHER_FILES = 128  # libraries, the decoder's pipes, a prediction file that is written
_NO_FLOCK = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}


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
            if last or not pid.isdigit() or is_alive(host, int(pid), held):
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
