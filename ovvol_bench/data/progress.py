"""A progress bar for what takes longer than a moment."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Step = TypeVar("Step")


def with_progress(
    steps: Iterable[Step], total: int, text: str, weight: Callable[[Step], int], patience: float = 1.0
) -> Iterator[Step]:
    """Pass steps through; show a bar once they take longer than ``patience`` seconds, on a terminal only.

    Args:
        steps: passed through.
        total: sum of all weights.
        text: in front of the bar.
        weight: what a step counts.
        patience: seconds without a bar.
    """
    begin, done, bar = time.monotonic(), 0, None
    with ExitStack() as stack:
        for step in steps:
            done += weight(step)
            if bar is None and sys.stderr.isatty() and time.monotonic() - begin > patience:
                bar = stack.enter_context(_bar())
                task = bar.add_task(text, total=total)
            if bar is not None:
                bar.update(task, completed=done)
            yield step


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), transient=True)
