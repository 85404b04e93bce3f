"""Checkpoints: complete, atomic, the last few kept."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError

from ovvol_bench.errors import CheckpointError, OutputError, OvvolError
from ovvol_bench.files import read_json, sealed, write_text
from ovvol_bench.weights import sha256_of

UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError)
"""Errors of reading a checkpoint of another module."""

_LOG = logging.getLogger(__name__)
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Progress:
    """Progress of a training.

    Attributes:
        step: optimizer steps done.
        processes: that wrote the checkpoint.
        engine: what wrote it, ``accelerate`` or ``deepspeed zero2``; another can't read it.
        micro_batch: examples that a process computed at a time.
        files: SHA-256 of each file by its path in the checkpoint.
    """

    step: int
    processes: int
    engine: str
    micro_batch: int
    files: Mapping[str, str] = field(default_factory=dict)


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

    def latest_whole(self) -> tuple[Path, Progress] | None:
        """The undamaged checkpoint of the most steps, with what it says of itself; None if there is none.

        Those that are passed over for it are named in the log.

        Raises:
            CheckpointError: if there are checkpoints and all are damaged.
        """
        damages: list[str] = []
        for checkpoint in reversed(self._all()):
            try:
                found = checkpoint, read_progress(checkpoint)
            except CheckpointError as error:
                damages.append(str(error))
                continue
            if damages:
                _LOG.warning("%s: training goes on from %s.", "; ".join(damages), checkpoint.name)
            return found
        if damages:
            raise CheckpointError(
                f"{'; '.join(damages)}: no whole one is left. Delete {self.folder} to start anew."
            )
        return None

    def partial(self, step: int) -> Path:
        """Return the folder for a checkpoint before it is `complete`; the same for all processes."""
        return self.folder / f".step-{step:08d}.part"

    def complete(self, progress: Progress) -> Path:
        """Let a written checkpoint take its place, and older ones go; damaged ones of later steps, too."""
        partial, final = self.partial(progress.step), self.folder / f"step-{progress.step:08d}"
        files = {str(file.relative_to(partial)): sha256_of(file) for file in _files(partial)}
        content = sealed({**asdict(progress), "files": files})
        write_text(partial / "progress.json", json.dumps(content, indent=2) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        place = self._all().index(final) + 1
        others = (*self._all()[: max(0, place - self._keep)], *self._all()[place:])
        for old in (*others, *self.folder.glob(".step-*.part")):  # and cut off ones
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
        except (
            OSError,
            RuntimeError,
            SafetensorError,
            OutputError,
        ) as error:  # torch reports a full disk as RuntimeError
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


def read_progress(checkpoint: Path) -> Progress:
    """Read the progress of a checkpoint, once its files are found to be those that were written.

    Raises:
        CheckpointError: if it is damaged.
    """
    try:
        content = read_json(checkpoint / "progress.json")
        if sealed(content) != content:
            raise ValueError("not what was written")
        progress = Progress(**{name: value for name, value in content.items() if name != "digest"})
        found = {str(file.relative_to(checkpoint)): sha256_of(file) for file in _files(checkpoint)}
        wrong = [name for name, digest in progress.files.items() if found.get(name) != digest]
    except (OSError, ValueError, TypeError, AttributeError, OvvolError) as error:
        raise CheckpointError(f"checkpoint {checkpoint} is damaged (progress.json: {error})") from error
    if wrong:
        raise CheckpointError(
            f"checkpoint {checkpoint} is damaged ({', '.join(wrong)}: not what was written)"
        )
    return progress


def _files(checkpoint: Path) -> list[Path]:
    """List the files that an engine wrote into a checkpoint."""
    return sorted(file for file in checkpoint.rglob("*") if file.is_file() and file.name != "progress.json")
