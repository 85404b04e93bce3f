"""Checkpoints: complete, atomic, the last few kept; and the note of the best validation."""

from __future__ import annotations

import json
import logging
import math
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError

from ovvol_bench.errors import CheckpointError, DataError, OutputError, OvvolError, SettingError
from ovvol_bench.files import read_json, sealed, write_text
from ovvol_bench.weights import sha256_of

UNREADABLE = (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError)
"""Errors of reading a checkpoint of another module."""

UNWRITABLE = (OSError, RuntimeError, SafetensorError, OutputError)
"""Errors of writing a checkpoint; torch reports a full disk as RuntimeError."""

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

    @classmethod
    def read(cls, checkpoint: Path) -> Progress:
        """Read the progress of a checkpoint, once its files are found to be those that were written.

        Raises:
            CheckpointError: if it is damaged.
        """
        try:
            content = read_json(checkpoint / "progress.json")
            if sealed(content) != content:
                raise ValueError("not what was written")
            progress = cls(**{name: value for name, value in content.items() if name != "digest"})
            found = _digests(checkpoint)
            wrong = [name for name, digest in progress.files.items() if found.get(name) != digest]
        except (OSError, ValueError, TypeError, AttributeError, OvvolError) as error:
            raise CheckpointError(f"checkpoint {checkpoint} is damaged (progress.json: {error})") from error
        if wrong:
            raise CheckpointError(
                f"checkpoint {checkpoint} is damaged ({', '.join(wrong)}: not what was written)"
            )
        return progress


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
        return next(reversed(self._all()), None)

    def latest_whole(self) -> tuple[Path, Progress] | None:
        """The undamaged checkpoint of the most steps, with what it says of itself; None if there is none.

        Those that are passed over for it are named in the log.

        Raises:
            CheckpointError: if there are checkpoints and all are damaged.
        """
        damages: list[str] = []
        for checkpoint in reversed(self._all()):
            try:
                found = checkpoint, Progress.read(checkpoint)
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

    def write(self, step: int, body: Callable[[Path], None]) -> None:
        """Write a part of a checkpoint, or what belongs to it; if that fails nothing of the checkpoint stays.

        Args:
            step: optimizer steps done.
            body: writes into the folder it is given.

        Raises:
            CheckpointError: if it can't be written; earlier checkpoints are as they were.
        """
        partial = self._partial(step)
        try:
            partial.mkdir(parents=True, exist_ok=True)
            body(partial)
        except UNWRITABLE as error:
            shutil.rmtree(partial, ignore_errors=True)
            latest = self.latest()
            raise CheckpointError(
                f"can't save step {step} in {self.folder}: {error}. Is the disk full? "
                + (f"{latest} is untouched" if latest else "There is no earlier one")
                + ": make room and give the same command again."
            ) from error

    def complete(self, progress: Progress) -> Path:
        """Let a written checkpoint take its place, and older ones go; damaged ones of later steps, too."""
        partial, final = self._partial(progress.step), self.folder / f"step-{progress.step:08d}"
        content = sealed({**asdict(progress), "files": _digests(partial)})
        write_text(partial / "progress.json", json.dumps(content, indent=2) + "\n")
        shutil.rmtree(final, ignore_errors=True)
        partial.rename(final)
        place = self._all().index(final) + 1
        others = (*self._all()[: max(0, place - self._keep)], *self._all()[place:])
        for old in (*others, *self.folder.glob(".step-*.part")):  # and cut off ones
            shutil.rmtree(old)
        return final

    def _partial(self, step: int) -> Path:
        """Folder of a checkpoint before it is `complete`; the same for all processes."""
        return self.folder / f".step-{step:08d}.part"

    def _all(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return sorted(path for path in self.folder.iterdir() if _NAME.fullmatch(path.name))


def _digests(checkpoint: Path) -> dict[str, str]:
    """Hash the files that an engine wrote into a checkpoint, by their paths in it."""
    files = [file for file in checkpoint.rglob("*") if file.is_file() and file.name != "progress.json"]
    return {str(file.relative_to(checkpoint)): sha256_of(file) for file in sorted(files)}


@dataclass(frozen=True)
class Best:
    """Measure by which the best of a training's validations is chosen, and noted in ``best.json``.

    Attributes:
        name: of a number that validation gives.
        highest: the best is the highest; false: the lowest.
    """

    name: str
    highest: bool

    @classmethod
    def of(cls, text: str) -> Best:
        """Read what is typed: ``lowest:validation_loss``, ``highest:corloc``.

        Raises:
            SettingError: if it is neither.
        """
        way, _, name = text.partition(":")
        if way not in ("lowest", "highest") or not name:
            raise SettingError(
                f"--keep-best {text}: expected lowest:NUMBER or highest:NUMBER, as in lowest:validation_loss."
            )
        return cls(name, way == "highest")

    def improves(self, folder: Path, numbers: Mapping[str, float]) -> bool:
        """Tell if a validation is better than the best one that a folder has noted.

        Raises:
            SettingError: if validation gives no such number.
            CheckpointError: if the note is damaged.
        """
        if self.name not in numbers:
            raise SettingError(
                f"--keep-best: validation gives no '{self.name}', only {', '.join(numbers) or 'nothing'}."
            )
        value, file = numbers[self.name], folder / "best.json"
        if not file.is_file():
            return math.isfinite(value)
        try:
            before = float(read_json(file)[self.name])
        except (DataError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{file} is damaged, or of another --keep-best ({error}). Delete it to begin anew."
            ) from error
        return value > before if self.highest else value < before

    def note(self, folder: Path, step: int, numbers: Mapping[str, float]) -> None:
        """Keep what `improves` compares with."""
        write_text(folder / "best.json", json.dumps({"step": step, self.name: numbers[self.name]}) + "\n")
