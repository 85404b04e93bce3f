"""Set how long threads of a network spin before they sleep."""

from __future__ import annotations

from collections.abc import MutableMapping

SPINS = 2000
"""Turns of libgomp's waiting loop, some 50 microseconds; it takes 300,000 by itself.

A thread that has done its share of a product spins until the others have done theirs. Where other processes
hold a processor, every product then lasts as long as the scheduler's slice, all of it CPU time: 60 clips took
331 s beside eight busy processes, 25 to 33 s with little spinning. None (``OMP_WAIT_POLICY=PASSIVE``) costs
speed on a quiet machine; docs/performance.md has what was measured.
"""


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
