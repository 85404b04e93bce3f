"""What a check found: counts, and every kind of problem with its first examples."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from ovvol_bench.files import in_utf8

EXAMPLES = 5
"""Of a kind of problem that are kept; all are counted, and all of ``SINGLY`` are kept."""


class Kind(StrEnum):
    """Kinds of problems, in the order in which they are told."""

    NOT_UTF8 = "videos whose name is not UTF-8"
    NOT_THERE = "listed, but not there"
    BAD_LINE = "list lines of an unknown layout"
    TWICE = "videos that a list names twice"
    NO_FRAMES = "folders without frames"
    OTHER_NAME = "images named in another way than the split's first frame"
    GAP = "frames missing from the numbering"
    BAD_FRAME = "frames that are no image, or cut off"
    CHANGED_SIZE = "frames of another size than their video's first"
    NO_ANNOTATION = "frames without annotation"
    NO_FRAME = "annotations without frame"
    BAD_ANNOTATION = "annotations that can't be parsed"
    STATED_SIZE = "annotations that state another size than the frame has"
    UNKNOWN_CLASS = "objects of unknown class"
    INVERTED = "boxes that end before they begin"
    OUTSIDE = "boxes that reach outside the frame"
    UNFINISHED = "preparations that did not come to their end"
    LEFT_OUT = "videos that could not be prepared"
    REPEATED = "prepared frames that show a neighbour, as they could not be read"
    BAD_VIDEO = "videos that can't be read, or are cut off"
    UNDECODED = "frames of videos that can't be decoded"
    OTHER_COUNT = "videos with another number of frames than was prepared"
    OTHER_SIZE = "videos of another size than was prepared"
    NOT_LISTED = "videos that no line of the list names"


SINGLY = frozenset({Kind.BAD_FRAME, Kind.REPEATED, Kind.UNDECODED})
"""Kinds of damaged frames, which can be mended one by one."""


@dataclass
class Findings:
    """Counts and problems; those of parts add up.

    Attributes:
        counts: what there is, by words such as ``frames``.
        problems: how often a kind occurs.
        examples: the first ``EXAMPLES`` of a kind, or all.
    """

    counts: Counter[str] = field(default_factory=Counter)
    problems: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[str]] = field(default_factory=dict)

    def add(self, kind: Kind, examples: Iterable[str]) -> None:
        """Count a problem for every example."""
        if there := list(map(in_utf8, examples)):
            self.problems[kind] += len(there)
            self._keep(kind, there)

    def include(self, other: Findings) -> None:
        """Add what another part found, its examples after those that are here."""
        self.counts.update(other.counts)
        self.problems.update(other.problems)
        for kind, examples in other.examples.items():
            self._keep(kind, examples)

    def told(self) -> list[tuple[Kind, int, list[str]]]:
        """Kinds that occur, with their count and first examples."""
        return [(kind, self.problems[kind], self.examples[kind]) for kind in Kind if self.problems[kind]]

    def _keep(self, kind: Kind, examples: list[str]) -> None:
        kept = self.examples.setdefault(kind, [])
        kept += examples if kind in SINGLY else examples[: EXAMPLES - len(kept)]
