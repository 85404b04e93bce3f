"""The words that slots can be named with: classes, synonyms, background names, templates."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ForegroundClass:
    """One class that counts as an object.

    Attributes:
        name: as printed; underscores are read as spaces in prompts unless names are used raw.
        synonyms: further names that count as the same class.
        code: the dataset's own key, for example a WordNet id.
        held_out: kept out of every training, to measure the open vocabulary.
    """

    name: str
    synonyms: tuple[str, ...] = ()
    code: str | None = None
    held_out: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """All names of a dataset. Class ids are positions in ``classes`` plus 1; 0 is the background.

    Attributes:
        name: shown in results.
        classes: the C foreground classes in id order.
        background: names that mark a slot as no object.
        templates: sentences with one ``%s`` each.
    """

    name: str
    classes: tuple[ForegroundClass, ...]
    background: tuple[str, ...] = ()
    templates: tuple[str, ...] = ("a photo of a %s",)
