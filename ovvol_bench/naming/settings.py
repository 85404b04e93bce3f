"""How slots are named: every choice has a name, so that a result can say which ones it used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Literal

from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.naming.vocabulary import template_problem


@dataclass(frozen=True)
class NamingSettings:
    """Settings of naming; ``dataclasses.asdict`` gives their JSON form.

    Attributes:
        temperature: factor on the cosine between a segment and a prompt, above 0 (paper: 100).
        filter_background: drop slots whose best prompt is no foreground class, or whose best
            foreground logit is not positive.
        keep_one: where that would drop every slot, keep the one with the highest foreground logit,
            so that every clip yields a segment.
        merge: ``same_name`` unites touching slots that share their best class with their union;
            ``none`` makes every slot a segment of its own.
        neighbours: which patches touch. ``full``: the 26 around a patch in space and time.
            ``reference``: only those at offsets 0 or +1 along frame, row and column, so that
            anti-diagonals don't connect.
        use_synonyms: a prompt for every synonym of a class; its score is that of its best prompt.
        raw_names: keep the underscores of names in prompts ("a photo of domestic_cat").
        background_prompt: add a prompt for ``__background__``, which then is class 0: no object for
            the filter, a possible name for a segment.
        templates: sentences with one ``%s`` each, instead of those of the vocabulary.
    """

    temperature: float = 100.0
    filter_background: bool = True
    keep_one: bool = True
    merge: Literal["same_name", "none"] = "same_name"
    neighbours: Literal["full", "reference"] = "full"
    use_synonyms: bool = True
    raw_names: bool = False
    background_prompt: bool = False
    templates: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise SettingError(f"naming.temperature: expected a number above 0, got {self.temperature}.")
        if self.templates is not None and (problem := template_problem(self.templates)):
            raise SettingError(f"naming.templates: {problem}")


REFERENCE = NamingSettings(
    neighbours="reference",
    use_synonyms=False,
    raw_names=True,
    background_prompt=True,
    templates=("a photo of %s",),
)
"""The conventions of the published program of the paper, ICCV 2023, arXiv 2309.09858."""


def naming_settings(options: Mapping[str, object], base: NamingSettings | None = None) -> NamingSettings:
    """Settings from a file or the command line; numbers and flags may be given as text.

    Args:
        options: values by the name of the setting.
        base: where the other settings come from; the defaults if None.

    Raises:
        SettingError: at an unknown name or a value out of range.
    """
    from pydantic import TypeAdapter, ValidationError

    known = [field.name for field in fields(NamingSettings)]
    for name in options:
        if name not in known:
            raise SettingError(
                f"Unknown naming setting '{name}'.{nearest(name, known)} Known: {', '.join(known)}."
            )
    values = {name: getattr(base or NamingSettings(), name) for name in known} | dict(options)
    try:
        return TypeAdapter(NamingSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise SettingError(f"naming.{where}: {first['msg']}, got {first['input']!r}.") from None
