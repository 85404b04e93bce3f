"""Training data of weights: kept in their file's header, compared with the data they are scored on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ovvol_bench.data.base import Dataset
from ovvol_bench.errors import WeightsError
from ovvol_bench.runs.spec import PartSpec

_LOG = logging.getLogger(__name__)

HEADER = "learned"
"""Name of the header's entry."""

STEPS = "steps"
"""Name of the header's entry for the steps of the whole training, beside ``step``, those that were done."""

RENDERED = "shapes"
"""The dataset that the harness renders: weights that learned from it alone know nothing but its forms."""

KEPT = 1024  # of a data set's videos: 12 kB of a header
_DIGITS = 12


@dataclass(frozen=True)
class Learned:
    """Data that weights learned from.

    Of many videos those with the smallest hashes stand for all (a bottom-k sample): of another set that
    shares videos with it, as large a share is found among them, and a video that isn't shared never is.

    Attributes:
        dataset: by name.
        fingerprint: of the dataset.
        videos: how many there were.
        hashes: the smallest of theirs, ascending hex digits.
    """

    dataset: str
    fingerprint: str
    videos: int
    hashes: tuple[str, ...]

    @classmethod
    def of(cls, part: PartSpec, dataset: Dataset) -> Learned:
        """All videos of a dataset."""
        names = {dataset.info(index).video for index in range(len(dataset))}
        hashes = sorted(video_hash(part.name, name) for name in names)
        return cls(part.name, part.digest or "", len(names), tuple(hashes[:KEPT]))


def video_hash(dataset: str, name: str) -> str:
    """Hash a video by name, so that it is the same wherever it lies."""
    return hashlib.sha256(f"{dataset}\0{name}".encode(errors="surrogatepass")).hexdigest()[:_DIGITS]


def header_text(learned: Iterable[Learned]) -> str:
    """Write the entry of a header; the same data is kept once."""
    return json.dumps([asdict(each) for each in dict.fromkeys(learned)])


def learned_by(files: Iterable[Path]) -> tuple[Learned, ...]:
    """Read the training data of weights from their files; none where a file doesn't say.

    Weights that a training left before its end are named in the log: they aren't what its end gives.

    Raises:
        WeightsError: if a header can't be read.
    """
    from ovvol_bench.weights import read_metadata  # torch loads here: scoring files needs none

    found: list[Learned] = []
    for file in files:
        try:
            header = read_metadata(file)
            if (done := int(header.get("step", 0))) < (total := int(header.get(STEPS, 0))):
                _LOG.warning(
                    "%s: weights of an unfinished training, after %d of %d steps. What its end does (a norm "
                    "that is calibrated, a learning rate that falls) is missing: features may be useless.",
                    *(file, done, total),
                )
            records: list[dict[str, Any]] = json.loads(header.get(HEADER, "[]"))
            found += [Learned(**{**record, "hashes": tuple(record["hashes"])}) for record in records]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise WeightsError(
                f"{file}: what its header says it learned from is damaged ({error}). Fetch the file again."
            ) from error
    return tuple(dict.fromkeys(found))


def videos_seen(learned: Iterable[Learned], hashes: Set[str]) -> int:
    """Count the videos that some weights are known to have learned from."""
    known = {each for data in learned for each in data.hashes}
    return len(known & hashes)
