"""A progress bar on terminals, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Update = Callable[..., None]
"""``update(name, done, total, text="")``; each name gets a bar."""


@contextmanager
def progress_bars(unit: str) -> Iterator[Update]:
    """Bars with a rate and the time left on standard error.

    Args:
        unit: what is counted, in the plural.

    Yields:
        An `Update`, which does nothing if standard error is no terminal.
    """
    if not sys.stderr.isatty():
        yield lambda name, done, total, text="": None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {}

        def update(name: str, done: int, total: int, text: str = "") -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, rate="", text="")
            task = progress.tasks[progress.task_ids.index(bars[name])]
            rate = f"{task.speed:.2f} {unit}/s" if task.speed else ""
            progress.update(bars[name], completed=done, total=total, rate=rate, text=text)

        yield update
