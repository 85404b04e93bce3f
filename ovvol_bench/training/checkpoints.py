"""Checkpoints: complete, atomic, the last few kept."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError

from ovvol_bench.errors import CheckpointError
from ovvol_bench.files import write_text

UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError)
"""What reading a damaged checkpoint, or one of another module, can raise."""

_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Progress:
    """Where a training stands.

    Attributes:
        step: optimizer steps done.
        processes: that wrote the checkpoint.
        engine: what wrote it, ``accelerate`` or ``deepspeed zero2``; another can't read it.
    """

    step: int
    processes: int
    engine: str


class Checkpoints:
    """The checkpoints of one training.

    Args:
        folder: that they lie in, one folder each.
        keep: how many of the latest stay.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self._keep = folder, keep

    def latest(self) -> Path | None:
        """The checkpoint of the most steps, or None; unfinished ones don't count."""
        found = self._all()
        return found[-1] if found else None

    def progress(self, checkpoint: Path) -> Progress:
        """What a checkpoint says of itself.

        Raises:
            CheckpointError: if it is damaged.
        """
        try:
            return Progress(**json.loads((checkpoint / "progress.json").read_text()))
        except (OSError, ValueError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {checkpoint} is damaged ({error}). Delete it: training goes on from the one "
                "before, or starts anew."
            ) from error

    def partial(self, step: int) -> Path:
        """Where to write a checkpoint before it is `complete`; the same for all processes."""
        return self.folder / f".step-{step:08d}.part"

    def complete(self, progress: Progress) -> Path:
        """Let a written checkpoint take its place, and older ones go."""
        partial, final = self.partial(progress.step), self.folder / f"step-{progress.step:08d}"
        write_text(partial / "progress.json", json.dumps(asdict(progress), indent=2) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        for old in (*self._all()[: -self._keep], *self.folder.glob(".step-*.part")):  # and cut off ones
            shutil.rmtree(old)
        return final

    def write(self, step: int, body: Callable[[Path], None]) -> None:
        """Write a part of a checkpoint, or what belongs to it; if that fails nothing of the checkpoint stays.

        Args:
            step: optimizer steps done.
            body: writes into the folder it is given.

        Raises:
            CheckpointError: if it can't be written; earlier checkpoints are as they were.
        """
        partial = self.partial(step)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            body(partial)
        except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
            shutil.rmtree(partial, ignore_errors=True)
            latest = self.latest()
            raise CheckpointError(
                f"can't save step {step} in {self.folder}: {error}. Is the disk full? "
                + (f"{latest} is untouched" if latest else "There is no earlier one")
                + ": make room and give the same command again."
            ) from error

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))
