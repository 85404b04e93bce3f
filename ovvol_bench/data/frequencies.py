"""Frequencies of classes in the truth of a dataset."""

from __future__ import annotations

from collections import Counter

from ovvol_bench.benchmark import Dataset
from ovvol_bench.errors import DataError


def class_frequencies(dataset: Dataset) -> dict[str, int]:
    """Count boxes by class name, every class of the vocabulary listed, in its order.

    Frames that belong to an earlier clip aren't counted again.

    Args:
        dataset: with truth.

    Raises:
        DataError: if a clip has none.
    """
    found: Counter[int] = Counter()
    for info in map(dataset.info, range(len(dataset))):
        if info.truth is None:
            raise DataError(f"clip {info.id} has no truth to count. Choose a dataset or split with truth.")
        for frame in info.truth[info.context :]:
            found.update(frame.class_ids.tolist())
    return {item.name: found[class_id] for class_id, item in enumerate(dataset.vocabulary.classes, 1)}
