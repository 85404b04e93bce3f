"""Every slot is named by how frequent classes are: what naming is worth without a look at the video."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from annotated_types import Gt
from torch import Tensor

from ovvol_bench import DataError, Labeler, Located, SettingError
from ovvol_bench.naming.vocabulary import spoken

_LEAST = -0.99  # cosine of a class that never occurs; that of background words is -1


def read_frequencies(path: Path) -> dict[str, float]:
    """Read how often classes occur.

    Args:
        path: a JSON file, {class name: count}.

    Raises:
        DataError: if it can't be read or holds anything else.
    """
    if not path.is_file():  # a pipe may never end
        raise DataError(f"{path}: no such file. Expected JSON, {{class name: count}}.")
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON file ({error}). Expected {{class name: count}}.") from None
    numbers = content.values() if isinstance(content, dict) else [None]
    if not all(
        isinstance(n, int | float) and not isinstance(n, bool) and math.isfinite(n) and n >= 0
        for n in numbers
    ):
        raise DataError(f"{path}: expected {{class name: count}} with counts of 0 or more.")
    return {str(name): float(number) for name, number in content.items()}


class Prior(Labeler):
    """Name everything by how frequent classes are: the cosine of a class grows with its frequency.

    At the ``temperature`` that naming uses, probabilities are the frequencies. Background words come last.

    Args:
        frequencies: JSON file of counts by class name, {"dog": 12, ...}, a class that isn't there has none;
            None: all classes alike, and the first one is the name of everything.
        temperature: of naming; probabilities are then the frequencies.

    Raises:
        DataError: if the file holds anything else.
    """

    patch_size = 16
    dim = 2
    needs_classes = True

    def __init__(
        self,
        *,
        frequencies: Annotated[Path | None, Located] = None,
        temperature: Annotated[float, Gt(0)] = 100.0,
    ) -> None:
        super().__init__()
        counts = None if frequencies is None else read_frequencies(frequencies)
        self._counts = counts and {_key(name): count for name, count in counts.items()}
        self._temperature = temperature
        listed = json.dumps(self._counts, sort_keys=True).encode()
        # As a buffer, what the file says counts towards a run's identity.
        self.register_buffer("frequencies", torch.tensor(list(listed), dtype=torch.uint8))

    def embed_patches(self, video: Tensor) -> Tensor:
        height, width = (side // self.patch_size for side in video.shape[-2:])
        patch = video.new_tensor([1.0, 0.0])
        return patch.expand(*video.shape[:2], height, width, 2).clone()

    def embed_text(self, prompts: Sequence[str], classes: Sequence[str | None] = ()) -> Tensor:
        counts = self._counts
        if counts is None:
            shares = [0.0 if name is None else 1.0 for name in classes]
        else:
            shares = [counts.get(_key(name), 0.0) if name else 0.0 for name in classes]
        largest = max(shares, default=0.0)
        if not largest > 0:
            raise SettingError(
                "prior: the frequencies are of none of the dataset's classes. Set labeler.frequencies to a "
                "file {class name: count} for this vocabulary."
            )
        first = torch.full((len(classes),), -1.0)
        for row, (name, share) in enumerate(zip(classes, shares, strict=True)):
            if name is not None:  # background words come last
                scaled = math.log(share / largest) / self._temperature if share > 0 else -math.inf
                first[row] = max(_LEAST, 1 + scaled)
        return torch.stack([first, (1 - first.square()).clamp(min=0).sqrt()], dim=1)


def _key(name: str) -> str:
    return spoken(name).casefold()
