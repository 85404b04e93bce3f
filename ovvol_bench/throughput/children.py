"""Work in a fresh process, so that one measurement leaves nothing behind for the next."""

from __future__ import annotations

import signal
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from ovvol_bench.data.processes import end_with_parent
from ovvol_bench.errors import OvvolError
from ovvol_bench.runs.results import error_text

Job = TypeVar("Job")
Tell = Callable[[str], None]
Work = Callable[[Job, Tell], Any]


class ChildError(OvvolError):
    """Work in a fresh process failed; the message is what a result says of it."""


def in_fresh_process(work: Work[Job], job: Job, tell: Tell) -> Any:
    """Do a job in a process of its own that ends with it.

    Args:
        work: a function of a module.
        job: picklable.
        tell: called with what the work tells while it goes on.

    Returns:
        What the work returns, pickled on its way.

    Raises:
        ChildError: if it raises, or its process is killed.
    """
    context = get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(theirs, work, job))
    process.start()
    theirs.close()
    try:
        return _answer(ours, tell)
    except EOFError:
        process.join()
        raise ChildError(
            f"the measuring process died (exit code {process.exitcode}), perhaps because memory ran out."
            " Try a smaller batch size."
        ) from None
    finally:
        process.kill()
        process.join()


def _answer(messages: Connection[Any, Any], tell: Tell) -> Any:
    while True:
        kind, value = messages.recv()
        if kind == "done":
            return value
        if kind == "failed":
            raise ChildError(value)
        tell(value)


def _serve(messages: Connection[Any, Any], work: Work[Job], job: Job) -> None:
    """The main function of the process. Ctrl-C is for the parent, which then kills it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent()
    try:
        answer = "done", work(job, lambda text: messages.send(("tell", text)))
    except Exception as error:
        answer = "failed", error_text(error)
    messages.send(answer)
