"""A progress bar on terminals, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def clip_progress() -> Iterator[Callable[[str, int, int], None]]:
    """A bar with clips a second and time left on standard error.

    Yields:
        ``update(name, done, total)``; each name gets a bar. Does nothing if standard error is no
        terminal.
    """
    if not sys.stderr.isatty():
        yield lambda name, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        bars = {}

        def update(name: str, done: int, total: int) -> None:
            if name not in bars:
                bars[name] = progress.add_task(name, total=total, rate="")
            task = progress.tasks[progress.task_ids.index(bars[name])]
            rate = f"{task.speed:.2f} clips/s" if task.speed else ""
            progress.update(bars[name], completed=done, total=total, rate=rate)

        yield update
