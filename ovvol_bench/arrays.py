"""Aliases of numpy arrays, and index arithmetic on ragged ones.

A ragged array is many short lists laid end to end, with their lengths beside. Boxes of frames and frames of
clips are kept in this way, so that nothing has to loop over them. Imports numpy only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


def offsets_of(counts: Ints) -> Ints:
    """Return the start of each of n lists and the end of the last, (n + 1,) int64.

    >>> offsets_of(np.array([2, 0, 3]))
    array([0, 2, 2, 5])
    """
    offsets = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=offsets[1:])
    return offsets


def spans(starts: Ints, counts: Ints) -> Ints:
    """Return the ranges ``[start, start + count)`` one after another.

    >>> spans(np.array([5, 0]), np.array([2, 3]))
    array([5, 6, 0, 1, 2])
    """
    ends = offsets_of(counts)
    found = np.repeat(starts - ends[:-1], counts)
    found += np.arange(ends[-1])
    return found


def run_starts(values: npt.NDArray[Any]) -> Ints:
    """(k,) int64: where runs of equal values begin.

    >>> run_starts(np.array([4, 4, 1, 4]))
    array([0, 2, 3])
    """
    starts = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts.nonzero()[0]


def all_pairs(first_counts: Ints, second_counts: Ints) -> tuple[Ints, Ints]:
    """Pair every item of a first ragged array with those of a second in the same list.

    Args:
        first_counts: (n,) items of the first array in each of n lists.
        second_counts: (n,) items of the second array in each list.

    Returns:
        Indices into the first and into the second array, both (P,); list by list, the first index
        ascending and for each of them the second.

    >>> all_pairs(np.array([2, 1]), np.array([1, 2]))
    (array([0, 1, 2, 2]), array([0, 0, 1, 2]))
    """
    partners = np.repeat(second_counts, first_counts)
    starts = np.repeat(offsets_of(second_counts)[:-1], first_counts)
    return np.repeat(np.arange(len(partners), dtype=np.int64), partners), spans(starts, partners)
