"""Settings of naming: every choice has a name, so that a result can say which ones it used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

from ovvol_bench.errors import SettingError, nearest
from ovvol_bench.naming.vocabulary import template_problem

_THRESHOLDS = {"features": 0.12, "overlap": 0.7}  # of SOLV and SSync


@dataclass(frozen=True)
class NamingSettings:
    """Settings of naming; ``dataclasses.asdict`` gives their JSON form.

    Attributes:
        temperature: factor on the cosine between a segment and a prompt, above 0 (paper: 100).
        filter_background: drop slots whose best prompt is no foreground class, or whose best
            foreground logit is not positive.
        keep_one: where that would drop every slot, keep the one with the highest foreground logit,
            so that every clip yields a segment.
        merge: which slots are one segment. ``same_name``: touching ones that share their best class with
            their union. ``features``: those alike, by complete linkage on cosine distance. ``overlap``: those
            active on the same patches, and what overlaps with them in turn. ``none``: every slot is one.
        merge_threshold: of ``features`` the largest distance within a segment, of ``overlap`` the IoU to
            exceed; in [0, 2] and [0, 1]. None: 0.12 (SOLV) and 0.7 (SSync).
        merge_features: of ``features`` what is compared: the ``labeler``'s embeddings of the slots, or the
            ``encoder``'s features.
        neighbours: which patches touch. ``full``: the 26 around a patch in space and time.
            ``reference``: only those at offsets 0 or +1 along frame, row and column, so that
            anti-diagonals don't connect.
        foreground: which class ids the filter takes for objects. ``vocabulary``: those of its foreground
            classes. ``reference``: 1 to 30, as the published program has it fixed. Of a shorter list
            background words are objects then, of a longer one the classes from 31 on background.
        consensus: how ``--consensus LOW..HIGH`` finds the number of groups: ``eigengap``, or ``loss``, the
            lowest one of k-means, as the published GPU variant does.
        use_synonyms: a prompt for every synonym of a class; its score is that of its best prompt.
        raw_names: keep the underscores of names in prompts ("a photo of domestic_cat").
        background_prompt: add a prompt for ``__background__``, which then is class 0: no object for
            the filter, a possible name for a segment.
        templates: sentences with one ``%s`` each, instead of those of the vocabulary.
    """

    temperature: float = 100.0
    filter_background: bool = True
    keep_one: bool = True
    merge: Literal["same_name", "none", "features", "overlap"] = "same_name"
    merge_threshold: float | None = None
    merge_features: Literal["labeler", "encoder"] = "labeler"
    neighbours: Literal["full", "reference"] = "full"
    foreground: Literal["vocabulary", "reference"] = "vocabulary"
    consensus: Literal["eigengap", "loss"] = "eigengap"
    use_synonyms: bool = True
    raw_names: bool = False
    background_prompt: bool = False
    templates: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise SettingError(f"naming.temperature: expected a number above 0, got {self.temperature}.")
        most = 2 if self.merge == "features" else 1
        if self.merge_threshold is not None and not 0 <= self.merge_threshold <= most:
            raise SettingError(
                f"naming.merge_threshold={self.merge_threshold}: expected a number from 0 to {most} for "
                f"naming.merge={self.merge}."
            )
        if self.templates is not None and (problem := template_problem(self.templates)):
            raise SettingError(f"naming.templates: {problem}")

    @property
    def threshold(self) -> float | None:
        """Threshold in use; None where no merger has one."""
        return _THRESHOLDS.get(self.merge) if self.merge_threshold is None else self.merge_threshold

    def as_used(self) -> NamingSettings:
        """Return the same with the threshold in use, for results to say."""
        return replace(self, merge_threshold=self.threshold)


REFERENCE = NamingSettings(
    neighbours="reference",
    foreground="reference",
    consensus="loss",
    use_synonyms=False,
    raw_names=True,
    background_prompt=True,
    templates=("a photo of %s",),
)
"""The conventions of the published program of the paper, ICCV 2023, arXiv 2309.09858."""


def naming_settings(options: Mapping[str, object], base: NamingSettings | None = None) -> NamingSettings:
    """Make settings from a file or the command line; numbers and flags may be given as text.

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
