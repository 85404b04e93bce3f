"""Settings of a process that save time: how long threads spin, and what becomes of freed memory."""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = 2000
"""Turns of libgomp's waiting loop, some 50 microseconds; it takes 300,000 by itself.

A thread that has done its share of a product spins until the others have done theirs. Where other processes
hold a processor, every product then lasts as long as the scheduler's slice, all of it CPU time: 60 clips took
331 s beside eight busy processes, 25 to 33 s with little spinning. On a quiet machine all ways take the same
time; docs/performance.md has what was measured.
"""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # names of glibc's mallopt
_KEPT = 1 << 30  # bytes
_LARGEST = 32 << 20  # bytes, what glibc takes at most


def spin_briefly(environment: MutableMapping[str, str]) -> None:
    """Bound the spinning of OpenMP's threads, unless the user has said how they wait.

    It counts for libraries that are loaded afterwards.

    >>> environment = {}
    >>> spin_briefly(environment)
    >>> environment
    {'GOMP_SPINCOUNT': '2000'}
    """
    if not environment.keys() & {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}:
        environment["GOMP_SPINCOUNT"] = str(SPINS)


def keep_freed_memory() -> None:
    """Let this process reuse what it frees, up to 1 GB, instead of giving every frame back to the system.

    Fresh memory comes page by page, each filled with zeros when it is first touched: for a decoded frame
    of 720 x 1280 pixels that takes half as long again as decoding it. Only glibc has this switch; elsewhere
    nothing happens.
    """
    import ctypes
    import platform

    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)
    library.mallopt(_MMAP_THRESHOLD, _LARGEST)
