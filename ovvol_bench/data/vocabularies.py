"""Which class a dataset's own category is: by name, through a vocabulary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.errors import DataError
from ovvol_bench.naming.vocabulary import (
    ForegroundClass,
    Vocabulary,
    builtin_vocabularies,
    load_vocabulary,
)

OBJECT = "object"
"""Name of the vocabulary of one class, for which every object is of that class."""


def object_vocabulary() -> Vocabulary:
    """One class ``object``: localization without naming."""
    return Vocabulary(OBJECT, (ForegroundClass(OBJECT),))


def choose_vocabulary(setting: str | None, names: Sequence[str], source: str) -> tuple[Vocabulary, Ints]:
    """The vocabulary that a setting asks for, and the class of each of a dataset's categories.

    Args:
        setting: ``object``, a built-in name or the path of a YAML file. None: the built-in vocabulary that
            has a class for every category and none besides, which adds synonyms and background words; else
            one of the categories' names, in their order.
        names: of the K categories.
        source: of the categories, for messages and as a name.

    Returns:
        The vocabulary and (K + 1,) class ids of the categories from 1; 0 for those outside it.

    Raises:
        DataError: if no category is in the vocabulary, or two names are the same for it.
    """
    if setting == OBJECT:
        return object_vocabulary(), np.array([0] + [1] * len(names), np.int64)
    vocabulary = _own_vocabulary(names, source) if setting is None else load_vocabulary(setting)
    classes = np.array([0, *(vocabulary.class_of(name) for name in names)], np.int64)
    if not classes.any():
        raise DataError(
            f"{source}: none of the {len(names)} categories ({', '.join(names[:3])}, ...) is in the "
            f"vocabulary '{vocabulary.name}'. Give a vocabulary with these names, or dataset.vocabulary=none."
        )
    return vocabulary, classes


def _own_vocabulary(names: Sequence[str], source: str) -> Vocabulary:
    for builtin in map(load_vocabulary, builtin_vocabularies()):
        classes = {builtin.class_of(name) for name in names} - {0}
        if len(classes) == len(names) == len(builtin.classes):
            return builtin
    try:
        return Vocabulary(source, tuple(ForegroundClass(name) for name in names))
    except DataError as error:
        raise DataError(f"{source}: categories can't be told apart by name ({error})") from None
