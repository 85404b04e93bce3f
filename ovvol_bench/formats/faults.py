"""What is wrong with a file: refused with one message, or left out and counted by reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ovvol_bench.arrays import Bools, Ints
from ovvol_bench.errors import DataError

OnError = Literal["fail", "skip"]


@dataclass(frozen=True)
class Report:
    """What came of reading a file.

    Attributes:
        format: the file's.
        entries: entries of the file (lines, objects).
        detections: boxes that were made of them.
        dropped: entries that were left out, reason to count.
        scores_outside: detections whose score is no probability.
        first_outside: the first of them, for messages; empty where there is none.
        out_of_frame: detections whose box reaches out of its frame, before any was cut.
        unscored: detections that the file gives no score; they have 1.
    """

    format: str
    entries: int
    detections: int
    dropped: Mapping[str, int]
    scores_outside: int = 0
    first_outside: str = ""
    out_of_frame: int = 0
    unscored: int = 0


class Faults:
    """Collects what is wrong with the entries of one file, or raises it.

    Attributes:
        dropped: entries that were left out so far, reason to count.
    """

    def __init__(self, where: Callable[[int], str], on_error: OnError) -> None:
        """Start with nothing wrong.

        Args:
            where: file and place of the entry with a number, for messages.
            on_error: ``fail`` raises at the first reason, ``skip`` counts.
        """
        self.where = where
        self.on_error = on_error
        self.dropped: dict[str, int] = {}

    def of(self, where: Callable[[int], str]) -> Faults:
        """Those of another list of the same file, counted together."""
        other = Faults(where, self.on_error)
        other.dropped = self.dropped
        return other

    def found(self, reason: str, at: Ints, what: str) -> None:
        """Entries that can't be used.

        Args:
            reason: a few words, the same for all such entries.
            at: (N,) numbers of the entries, N at least 1.
            what: what the first of them has, and what was expected.

        Raises:
            DataError: if faults are not to be skipped.
        """
        if self.on_error == "fail":
            first = f" (the first of {len(at)} such entries)" if len(at) > 1 else ""
            raise DataError(
                f"{self.where(int(at[0]))}{first}: {what}. Mend the file, or leave such entries out with "
                "--on-error skip"
            )
        self.leave_out(reason, len(at))

    def leave_out(self, reason: str, count: int) -> None:
        """Count entries that aren't wrong, but about nothing that is asked for."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count


class Rows:
    """Which of E entries are still good; of several faults of one, the first counts.

    Attributes:
        at: (E,) number of each entry in the file.
        good: (E,) bool.
    """

    def __init__(self, at: Ints, faults: Faults) -> None:
        self.at = at
        self.faults = faults
        self.good = np.ones(len(at), np.bool_)

    def refuse(self, bad: Bools, reason: str, say: Callable[[int], str]) -> None:
        """Mark entries.

        Args:
            bad: (E,) those with the fault.
            reason: see ``Faults.found``.
            say: what a row has, and what was expected.

        Raises:
            DataError: if faults are not to be skipped.
        """
        rows = np.flatnonzero(bad & self.good)
        if len(rows):
            self.faults.found(reason, self.at[rows], say(int(rows[0])))
            self.good[rows] = False

    def leave_out(self, unasked: Bools, reason: str) -> None:
        """Mark entries that aren't wrong, but about nothing that is asked for."""
        rows = np.flatnonzero(unasked & self.good)
        if len(rows):
            self.faults.leave_out(reason, len(rows))
            self.good[rows] = False
