"""Progress of what takes longer than a moment: bars on terminals, a line now and then elsewhere.

``LOGGER.setLevel(logging.WARNING)``, which ``--quiet`` does, silences both.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

Update = Callable[..., None]
"""``update(name, done, total, text="")``; each name gets a bar or lines of its own."""
Step = TypeVar("Step")

LINE_EVERY = 30.0  # seconds between lines where standard error is no terminal
LOGGER = logging.getLogger("ovvol_bench.progress")
LOGGER.setLevel(logging.INFO)


@contextmanager
def progress_bars(unit: str) -> Iterator[Update]:
    """Show how far something is, with its rate and the time left, on standard error.

    Args:
        unit: what is counted, in the plural.

    Yields:
        An `Update`: bars on a terminal, elsewhere a line every 30 seconds.
    """
    if not LOGGER.isEnabledFor(logging.INFO):
        yield lambda name, done, total, text="": None
    elif not (sys.stderr and sys.stderr.isatty()):
        yield _lines(unit)
    else:
        with _bars() as progress:
            tasks: dict[str, TaskID] = {}

            def update(name: str, done: int, total: int, text: str = "") -> None:
                if name not in tasks:
                    tasks[name] = progress.add_task(name, total=total, rate="", text="")
                speed = next(task.speed for task in progress.tasks if task.id == tasks[name])
                rate = f"{speed:.2f} {unit}/s" if speed else ""
                progress.update(tasks[name], completed=done, total=total, rate=rate, text=text)

            yield update


@contextmanager
def quiet(wanted: bool = True) -> Iterator[None]:
    """Show no progress meanwhile, if that is wanted."""
    before = LOGGER.level
    if wanted:
        LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(before)


def _lines(unit: str) -> Update:
    begin: dict[str, tuple[float, int]] = {}
    printed: dict[str, float] = {}

    def update(name: str, done: int, total: int, text: str = "") -> None:
        now = time.monotonic()
        started, before = begin.setdefault(name, (now, done))
        if now - printed.setdefault(name, now) < LINE_EVERY:
            return
        printed[name] = now
        rate = (done - before) / (now - started)
        left = f", {clock((total - done) / rate)} left" if rate else ""
        text = f", {text}" if text else ""
        sys.stderr.write(f"{name}: {done} of {total} {unit}, {rate:.3g} {unit}/s{left}{text}\n")
        sys.stderr.flush()

    return update


def clock(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds.

    >>> clock(59.6), clock(3725)
    ('1:00', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def with_progress(
    steps: Iterable[Step], total: int, text: str, weight: Callable[[Step], int], patience: float = 1.0
) -> Iterator[Step]:
    """Pass steps through; show how far they are once they take longer than ``patience`` seconds.

    Args:
        steps: passed through.
        total: sum of all weights.
        text: what is done.
        weight: what a step counts.
        patience: seconds in silence.
    """
    begin, done, update = time.monotonic(), 0, None
    with ExitStack() as stack:
        for step in steps:
            done += weight(step)
            if update is None and time.monotonic() - begin > patience:
                update = stack.enter_context(progress_bars("steps"))
            if update is not None:
                update(text, done, total)
            yield step


def _bars() -> Progress:
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
    return Progress(*columns, console=Console(stderr=True))
