"""The words that slots can be named with: classes, synonyms, background names, templates.

Built-in vocabularies and those of users are YAML files of one schema::

    name: farm                         # optional, default: the file's name
    classes:                           # at least one, in the order of their ids
      - cow                            # a name alone, or
      - {name: sheep, code: n02411705, synonyms: [lamb, ewe], held_out: false}
    background: [grass, sky]           # optional: words, or a word list: coco-stuff, my-words.txt
    templates: ["a photo of a %s"]     # optional

A word list is a text file with a word a line, beside the YAML file or built in. Two names are the
same if they differ only in case or in underscores for spaces. A name that stands for two classes
is refused; repeated words and background words that name a class are dropped and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ovvol_bench.arrays import Ints
from ovvol_bench.errors import DataError, UnknownNameError, nearest
from ovvol_bench.files import read_text, read_yaml
from ovvol_bench.printing import control_problem

BACKGROUND = "__background__"
OBJECT = "object"  # name of the vocabulary of one class, which every object is of
DEFAULT_TEMPLATES = ("a photo of a %s",)
_FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ForegroundClass:
    """Class that counts as an object.

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
        dropped: what the loader left out, reason to count.

    Raises:
        DataError: if there is no class, a name stands for two classes, a code is used twice, a text holds
            control characters, or a template hasn't exactly one ``%s``.
    """

    name: str
    classes: tuple[ForegroundClass, ...]
    background: tuple[str, ...] = ()
    templates: tuple[str, ...] = DEFAULT_TEMPLATES
    dropped: Mapping[str, int] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not self.classes:
            raise DataError("classes: expected at least one class, got none.")
        _refuse_control_characters(self)
        _refuse_ambiguous(self.classes)
        if problem := template_problem(self.templates):
            raise DataError(f"templates: {problem}")

    @property
    def names(self) -> tuple[str, ...]:
        """Names by class id, (C + 1); position 0 holds ``__background__``."""
        return (BACKGROUND, *(item.name for item in self.classes))

    @property
    def id_of_code(self) -> dict[str, int]:
        """Class ids by the dataset's own keys, for the classes that have one."""
        return {item.code: i for i, item in enumerate(self.classes, 1) if item.code is not None}

    def class_of(self, name: str) -> int:
        """Return the class id of a name or synonym, in any spelling; 0 if no class has it.

        >>> Vocabulary("zoo", (ForegroundClass("red_panda", ("lesser panda",)),)).class_of("Lesser_Panda")
        1
        """
        names = ({_key(word) for word in (item.name, *item.synonyms)} for item in self.classes)
        return next((i for i, words in enumerate(names, 1) if _key(name) in words), 0)


def spoken(name: str) -> str:
    """Return a name as it is read aloud, without underscores.

    >>> spoken("domestic_cat")
    'domestic cat'
    """
    return " ".join(name.replace("_", " ").split())


def template_problem(templates: Sequence[str]) -> str | None:
    """Return a sentence on the fault of prompt templates, or None."""
    if not templates:
        return "expected at least one template, got none."
    bad = [text for text in templates if text.count("%s") != 1]
    return f"expected exactly one %s in each template, got {bad[0]!r}." if bad else None


def imagenet_vid() -> Vocabulary:
    """Load the 30 classes of ImageNet-VID in the devkit's order, WordNet ids and COCO-stuff background."""
    return load_vocabulary("imagenet-vid")


def youtube_vis(year: Literal[2019, 2021]) -> Vocabulary:
    """Load the 40 classes of YouTube-VIS in the year's order; the two years differ, so map by name."""
    return load_vocabulary(f"youtube-vis-{year}")


def builtin_vocabularies() -> list[str]:
    """List the names of the vocabularies that come with the package."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_vocabulary(source: str | Path) -> Vocabulary:
    """Load a built-in vocabulary by name, or a user's by the path of its YAML file.

    Args:
        source: a name of ``builtin_vocabularies``, or a path that ends in .yaml or .yml.

    Raises:
        UnknownNameError: if there is no built-in vocabulary of that name.
        DataError: if the file is missing or not of the schema (see this module); names the field.
    """
    path = Path(source)
    if path.suffix.lower() not in {".yaml", ".yml"}:
        known = builtin_vocabularies()
        if source not in known:
            raise UnknownNameError(
                f"Unknown vocabulary '{source}'.{nearest(str(source), known)} Built in: {', '.join(known)}; "
                "or give the path of a .yaml file."
            )
        path = _FOLDER / f"{source}.yaml"
    content = read_yaml(path)
    try:
        return parse_vocabulary(content, default_name=path.stem, folder=path.parent)
    except DataError as error:
        raise DataError(f"Vocabulary {path}: {error}") from None


def choose_vocabulary(setting: str | None, names: Sequence[str], source: str) -> tuple[Vocabulary, Ints]:
    """Return the vocabulary that a dataset's setting asks for, and the class of each of its own categories.

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
        return Vocabulary(OBJECT, (ForegroundClass(OBJECT),)), np.array([0] + [1] * len(names), np.int64)
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


def parse_vocabulary(content: object, default_name: str = "custom", folder: Path = _FOLDER) -> Vocabulary:
    """Make a vocabulary of what a YAML file of the schema holds.

    Args:
        content: the parsed file.
        default_name: used where the content has no name.
        folder: where word lists are looked for, before the built-in ones.

    Raises:
        DataError: if the content is not of the schema; names the field.
    """
    fields = _mapping(content, "top level", {"name", "classes", "background", "templates"})
    dropped: Counter[str] = Counter()
    classes = tuple(
        _foreground_class(item, f"classes[{i}]", dropped)
        for i, item in enumerate(_list(fields.get("classes", []), "classes"))
    )
    # Words of each spelling once, the first; those that name a class are dropped.
    words = _background_words(fields.get("background") or [], folder)
    unique = {_key(word): word for word in reversed(words)}
    foreground = {_key(name) for item in classes for name in (item.name, *item.synonyms)}
    background = tuple(word for key, word in reversed(unique.items()) if key not in foreground)
    dropped["repeated background words"] += len(words) - len(unique)
    dropped["background words that name a class"] += len(unique) - len(background)
    return Vocabulary(
        name=_word(fields.get("name", default_name), "name"),
        classes=classes,
        background=background,
        templates=_words(fields.get("templates", list(DEFAULT_TEMPLATES)), "templates"),
        dropped={reason: count for reason, count in dropped.items() if count},
    )


def _key(name: str) -> str:
    """Reduce a name to what all its spellings share."""
    return spoken(name).casefold()


def _refuse_ambiguous(classes: Iterable[ForegroundClass]) -> None:
    """Check that every name and code stands for one class."""
    owner: dict[str, str] = {_key(BACKGROUND): BACKGROUND}
    codes: dict[str, str] = {}
    for i, item in enumerate(classes):
        for key in {_key(name) for name in (item.name, *item.synonyms)}:
            if key in owner:
                raise DataError(
                    f"classes[{i}]: '{item.name}' has the name '{key}', which is taken by '{owner[key]}'."
                )
            owner[key] = item.name
        if item.code is not None and codes.setdefault(item.code, item.name) != item.name:
            raise DataError(f"classes[{i}]: code '{item.code}' is taken by '{codes[item.code]}'.")


def _refuse_control_characters(vocabulary: Vocabulary) -> None:
    # No terminal, file or tokenizer is given what it would act on.
    texts: list[tuple[str, str]] = []
    for i, item in enumerate(vocabulary.classes):
        texts += [(f"classes[{i}].name", item.name), (f"classes[{i}].code", item.code or "")]
        texts += [(f"classes[{i}].synonyms[{n}]", word) for n, word in enumerate(item.synonyms)]
    texts += [(f"background[{i}]", word) for i, word in enumerate(vocabulary.background)]
    texts += [(f"templates[{i}]", text) for i, text in enumerate(vocabulary.templates)]
    for where, text in texts:
        if problem := control_problem(text):
            raise DataError(f"{where}: {problem}")


def _foreground_class(content: object, where: str, dropped: Counter[str]) -> ForegroundClass:
    if isinstance(content, str):
        content = {"name": content}
    fields = _mapping(content, where, {"name", "synonyms", "code", "held_out"})
    if "name" not in fields:
        raise DataError(f"{where}.name: missing.")
    name = _word(fields["name"], f"{where}.name")
    listed = _words(fields.get("synonyms", []), f"{where}.synonyms")
    unique = {_key(word): word for word in reversed(listed) if _key(word) != _key(name)}
    synonyms = tuple(unique.values())[::-1]
    dropped["repeated synonyms"] += len(listed) - len(synonyms)
    code, held_out = fields.get("code"), fields.get("held_out", False)
    if not isinstance(held_out, bool):
        raise DataError(f"{where}.held_out: expected true or false, got {held_out!r}.")
    return ForegroundClass(name, synonyms, None if code is None else _word(code, f"{where}.code"), held_out)


def _background_words(content: object, folder: Path) -> tuple[str, ...]:
    """Read words given in place, or those of a word list."""
    if not isinstance(content, str):
        return _words(content, "background")
    candidates = [folder / content, _FOLDER / f"{content}.txt"]
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        known = ", ".join(sorted(path.stem for path in _FOLDER.glob("*.txt")))
        raise DataError(f"background: no word list '{content}' in {folder}. Built in: {known}.")
    try:
        lines = [line.strip() for line in read_text(found).splitlines()]
    except (OSError, ValueError) as error:
        raise DataError(f"background: can't read the word list {found} ({error}).") from error
    return tuple(line for line in lines if line and not line.startswith("#"))


def _mapping(content: object, where: str, known: set[str]) -> Mapping[str, object]:
    if not isinstance(content, Mapping):
        raise DataError(f"{where}: expected fields with names, got {_kind(content)}.")
    for name in content:
        if name not in known:
            hint = nearest(str(name), known)
            raise DataError(f"{where}: unknown field '{name}'.{hint} Known: {', '.join(sorted(known))}.")
    return content


def _list(content: object, where: str) -> list[object]:
    if not isinstance(content, list):
        raise DataError(f"{where}: expected a list, got {_kind(content)}.")
    return content


def _words(content: object, where: str) -> tuple[str, ...]:
    return tuple(_word(item, f"{where}[{i}]") for i, item in enumerate(_list(content, where)))


def _word(content: object, where: str) -> str:
    if not isinstance(content, str):
        raise DataError(f"{where}: expected text, got {_kind(content)} {content!r}; put it in quotes.")
    if not content.strip():
        raise DataError(f"{where}: expected text, got an empty one.")
    return content.strip()


def _kind(content: object) -> str:
    return {"NoneType": "nothing", "dict": "fields", "str": "text"}.get(
        type(content).__name__, type(content).__name__
    )
