"""Answers of helper processes: pickled, with large arrays in memory that both processes share."""

from __future__ import annotations

import mmap
import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from socket import recv_fds, send_fds, socket
from typing import IO, Any

CAN_SHARE = hasattr(os, "memfd_create")
"""Whether the system has memory without a name that can be handed to another process; Linux has."""

_WORTH_SHARING = 1 << 16  # bytes; less goes through the pipe
_ALIGNED = 64  # bytes


@dataclass(frozen=True)
class Answer:
    """What a call in a helper process gave.

    Attributes:
        done: whether it returned.
        value: what it returned, or the text of its error.
        cpu_seconds: of the processor that it took there.
    """

    done: bool
    value: Any
    cpu_seconds: float


def pack(answer: Answer, pipe: IO[bytes], passing: socket | None) -> None:
    """Send an answer.

    Args:
        answer: to send.
        pipe: for the pickle.
        passing: for the memory that large arrays are copied to; None: they go through the pipe.
    """
    large: list[memoryview] = []

    def is_small(buffer: pickle.PickleBuffer) -> bool:
        raw = buffer.raw()
        if raw.nbytes >= _WORTH_SHARING:
            large.append(raw)
        return raw.nbytes < _WORTH_SHARING

    pickled = pickle.dumps(answer, 5, buffer_callback=is_small if passing else None)
    pickle.dump((pickled, [raw.nbytes for raw in large]), pipe)
    pipe.flush()
    if passing and large:
        memory = _filled(large)
        send_fds(passing, [b"m"], [memory])
        os.close(memory)


def unpack(pipe: IO[bytes], passed: socket | None) -> Answer:
    """Receive what `pack` sent; arrays lie in the shared memory, which goes with the last of them.

    Raises:
        EOFError: or ``OSError`` or ``pickle.UnpicklingError``, if the other side died on the way.
    """
    pickled, sizes = pickle.load(pipe)  # noqa: S301 - from our own helper
    answer: Answer = pickle.loads(pickled, buffers=_mapped(passed, sizes) if passed and sizes else ())  # noqa: S301
    return answer


def _filled(buffers: Sequence[memoryview]) -> int:
    """Descriptor of new memory that holds the buffers, each from a multiple of ``_ALIGNED`` on."""
    memory = os.memfd_create("frames", os.MFD_CLOEXEC)
    place = 0
    for buffer in buffers:
        rest = buffer
        while rest:
            written = os.pwrite(memory, rest, place)
            place, rest = place + written, rest[written:]
        place += -place % _ALIGNED
    return memory


def _mapped(passed: socket, sizes: Sequence[int]) -> list[memoryview]:
    _, descriptors, _, _ = recv_fds(passed, 1, 1)
    if not descriptors:
        raise EOFError
    whole = memoryview(mmap.mmap(descriptors[0], 0))
    os.close(descriptors[0])
    views, place = [], 0
    for size in sizes:
        views.append(whole[place : place + size])
        place += size + -size % _ALIGNED
    return views
