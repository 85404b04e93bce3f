"""The weights of the best validation so far."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ovvol_bench.errors import CheckpointError, DataError, SettingError
from ovvol_bench.files import read_json, write_text

BEST = "best.json"


@dataclass(frozen=True)
class Best:
    """Measure by which the best of a training's validations is chosen.

    Attributes:
        name: of a number that validation gives.
        highest: the best is the highest; false: the lowest.
    """

    name: str
    highest: bool

    @classmethod
    def of(cls, text: str) -> Best:
        """As it is typed: ``lowest:validation_loss``, ``highest:corloc``.

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
        value = numbers[self.name]
        if not (folder / BEST).is_file():
            return math.isfinite(value)
        try:
            before = float(read_json(folder / BEST)[self.name])
        except (DataError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{folder / BEST} is damaged, or of another --keep-best ({error}). Delete it to begin anew."
            ) from error
        return value > before if self.highest else value < before

    def note(self, folder: Path, step: int, numbers: Mapping[str, float]) -> None:
        """Keep what `improves` compares with."""
        write_text(folder / BEST, json.dumps({"step": step, self.name: numbers[self.name]}) + "\n")
