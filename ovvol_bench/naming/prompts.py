"""Sentences to compare segments with, and their embeddings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Bools, Floats, Ints
from ovvol_bench.errors import ContractError
from ovvol_bench.naming.settings import NamingSettings
from ovvol_bench.naming.vocabulary import BACKGROUND, Vocabulary, spoken

# Highest class id that the published program's filter takes for an object, whatever the vocabulary.
REFERENCE_FOREGROUND = 30


@dataclass(frozen=True)
class Prompts:
    """P sentences, each of one class.

    Class ids: 0 is ``__background__`` (it has prompts only if asked for), 1 to C are the foreground
    classes, C + 1 and up are the background words, each a class of its own.

    Attributes:
        texts: sentences, ordered by template, then class, then text.
        class_ids: (P,) int64.
        class_names: names by class id, background words included.
        num_classes: C.
        last_foreground: highest class id that the filter takes for an object; None: C.
    """

    texts: tuple[str, ...]
    class_ids: Ints
    class_names: tuple[str, ...]
    num_classes: int
    last_foreground: int | None = None

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def is_foreground(self) -> Bools:
        """Prompts that speak of an object, to the filter, (P,)."""
        last = self.num_classes if self.last_foreground is None else self.last_foreground
        foreground: Bools = (self.class_ids > 0) & (self.class_ids <= last)
        return foreground

    @property
    def is_name(self) -> Bools:
        """Prompts that segments can be named with, foreground and class 0, (P,)."""
        name: Bools = self.class_ids <= self.num_classes
        return name

    def names_only(self) -> Prompts:
        """Keep the prompts that segments can be named with."""
        texts = tuple(np.array(self.texts, dtype=object)[self.is_name])
        names = self.class_names[: self.num_classes + 1]
        return replace(self, texts=texts, class_ids=self.class_ids[self.is_name], class_names=names)


def build_prompts(vocabulary: Vocabulary, settings: NamingSettings) -> Prompts:
    """Make the prompts of a vocabulary.

    Sentences of one template and class are sorted, so that the order in which synonyms are written
    down doesn't matter; names that read the same give one sentence.
    """
    groups = [[BACKGROUND]]
    groups += [[each.name, *(each.synonyms if settings.use_synonyms else ())] for each in vocabulary.classes]
    groups += [[word] for word in vocabulary.background]
    if not settings.raw_names:
        groups = [[spoken(name) for name in names] for names in groups]
    pairs = [
        (text, class_id)
        for template in settings.templates or vocabulary.templates
        for class_id, names in enumerate(groups)
        if class_id or settings.background_prompt
        for text in sorted({template.replace("%s", name) for name in names})
    ]
    texts, class_ids = zip(*pairs, strict=True)
    class_names = (*vocabulary.names, *vocabulary.background)
    last = REFERENCE_FOREGROUND if settings.foreground == "reference" else None
    ids = np.array(class_ids, dtype=np.int64)
    return Prompts(texts, ids, class_names, len(vocabulary.classes), last)


@dataclass(frozen=True)
class TextBank:
    """Prompts and a labeler's embeddings of them; made once for a labeler and vocabulary.

    Attributes:
        prompts: P sentences.
        embeddings: (P, E) float32, rows of unit length.
    """

    prompts: Prompts
    embeddings: Floats

    @classmethod
    def of(cls, prompts: Prompts, embeddings: npt.ArrayLike) -> TextBank:
        """Pair prompts with embeddings of any length; rows are brought to unit length.

        Args:
            prompts: P sentences.
            embeddings: (P, E), in memory of the CPU.

        Raises:
            ContractError: if the shape doesn't fit, or a row is zero or not finite.
        """
        rows = np.asarray(embeddings, dtype=np.float32)
        if rows.ndim != 2 or len(rows) != len(prompts):
            raise ContractError(
                f"The labeler returned text of shape {rows.shape}; expected ({len(prompts)}, E)."
            )
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        bad = np.flatnonzero(~np.isfinite(lengths) | (lengths == 0))
        if len(bad):
            raise ContractError(
                f"The labeler's embedding of '{prompts.texts[bad[0]]}' is zero or not finite "
                f"({len(bad)} of {len(prompts)} prompts)."
            )
        return cls(prompts, rows / lengths)

    @cached_property
    def names(self) -> TextBank:
        """Part that segments can be named with."""
        return TextBank(self.prompts.names_only(), self.embeddings[self.prompts.is_name])
