"""Annotations of settings: ranges of numbers, and roles in a run.

``num_slots: Slots = 15`` has a range, ``weights: Annotated[Path | None, Weights] = None`` has a role.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from annotated_types import Ge, Le

from ovvol_bench.errors import PluginError, SettingError

# Beyond these ranges a typing mistake takes all memory before anything is said.
MOST_SLOTS = 4096
"""Of a clip: naming compares every two, and a clip of 8 frames at 224 x 400 has 2,800 patches."""

Slots = Annotated[int, Ge(1), Le(MOST_SLOTS)]
"""Slots of a clip, or what makes so many."""

Rounds = Annotated[int, Ge(1), Le(100_000)]
"""Repetitions of a method."""

Side = Annotated[int, Ge(1), Le(4096)]
"""Pixels, of a patch or of the square images that a network is made for."""

Cells = Annotated[int, Ge(1), Le(1024)]
"""Side of a grid of patches, or frames of a clip, for which a network has positions."""

Width = Annotated[int, Ge(1), Le(65_536)]
"""Channels of a network."""

Layers = Annotated[int, Ge(1), Le(1024)]
"""Layers of a network, or heads of a layer."""

BatchSize = Annotated[int, Ge(1), Le(2**20)]
"""Examples of an optimizer step."""


def check_fits(what: str, numbers: int) -> None:
    """Refuse a network that is larger than this machine's memory, before any of it is made.

    Args:
        what: names the settings that make it so large, as in ``videomae: dim=768, depth=12``.
        numbers: float32 that it holds, about.

    Raises:
        SettingError: if they take more bytes than there are; nothing is refused where the system doesn't say.
    """
    if not hasattr(os, "sysconf"):
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if 4 * numbers > there:
        raise SettingError(
            f"{what}: takes {4 * numbers / 1e9:,.0f} GB; this machine has {there / 1e9:,.0f}. Choose less."
        )


@dataclass(frozen=True)
class Role:
    """Base of all that a setting can be beside a plain one, which counts for a run's identity as it is."""

    words: ClassVar[str] = ""

    @property
    def text(self) -> str:
        """A few words for lists of settings."""
        return self.words


class Located(Role):
    """The setting says where content lies: a digest of the content counts for identity, its place doesn't.

    The component must then show the content: weights as parameters or buffers, data in its fingerprint.
    """

    words = "place of content"


class Pretrained(Located):
    """Place of the weights that a component is built on; None or false: random ones."""

    words = "place of weights"


class Weights(Pretrained):
    """Place of the component's own trained weights; None: random ones. Training starts without them."""


class ClipLength(Role):
    """Frames of a dataset's clips; groupers are trained for as many."""

    words = "frames of a clip"


@dataclass(frozen=True)
class Filled(Role):
    """The setting follows from another part of the run unless it is set.

    Args:
        what: one of ``known``.

    Raises:
        PluginError: if it is none of them.
    """

    what: str
    source: ClassVar[str]
    known: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        if self.what not in self.known:
            known = ", ".join(map(repr, self.known))
            raise PluginError(f"{type(self).__name__}({self.what!r}): expected one of {known}")

    @property
    def text(self) -> str:
        return f"follows from the {self.source} ({self.what})"


class FromEncoder(Filled):
    """Of a grouper: ``dim``, channels of the features; ``steps``, their time steps in a clip."""

    source = "encoder"
    known = ("dim", "steps")


class FromDataset(Filled):
    """Of a labeler or metric: ``num_classes``, ``class_names``, or ``held_out``, ids kept out of training.

    Labelers get ``num_classes`` only.
    """

    source = "dataset"
    known = ("num_classes", "class_names", "held_out")


class FromPredictions(Filled):
    """Of a metric: ``groups``, ``slots`` or ``segments``, whichever the predictions hold."""

    source = "predictions"
    known = ("groups",)


class FromSize(Filled):
    """Of a dataset: ``short_side`` and ``multiple`` of the frames that ``bench --sizes`` asks for, pixels."""

    source = "measured size"
    known = ("short_side", "multiple")


FILLED = {
    "grouper": (FromEncoder,),
    "labeler": (FromDataset,),
    "metric": (FromDataset, FromPredictions),
    "dataset": (FromSize,),
}
"""Roles of settings that are filled in, by kind of component."""


def role_of(annotation: Any) -> Role | None:
    """Return the role that an annotation gives a setting, wherever in it ``Annotated`` stands.

    >>> role_of(Annotated[int, FromEncoder("dim")] | None)
    FromEncoder(what='dim')

    Raises:
        PluginError: if it gives two.
    """
    found = list(dict.fromkeys(_roles(annotation)))
    if len(found) > 1:
        raise PluginError(f"{' and '.join(map(repr, found))} contradict each other: a setting has one role")
    return found[0] if found else None


def _roles(annotation: Any) -> Iterator[Role]:
    for item in filter(_is_role, getattr(annotation, "__metadata__", ())):
        if isinstance(item, type) and issubclass(item, Filled):
            raise PluginError(f"{item.__name__} says what follows, as in {item.__name__}({item.known[0]!r})")
        yield item() if isinstance(item, type) else item  # Annotated[Path, Located], without brackets
    for inner in get_args(annotation):
        yield from _roles(inner)


def without_roles(annotation: Any) -> Any:
    """Return an annotation as it would be without roles, to show it.

    >>> without_roles(Annotated[int, FromEncoder("dim")] | None)
    int | None
    """
    if isinstance(annotation, UnionType) or get_origin(annotation) is Union:
        return reduce(or_, map(without_roles, get_args(annotation)))
    if get_origin(annotation) is not Annotated:
        return annotation
    others = [item for item in annotation.__metadata__ if not _is_role(item)]
    inner = without_roles(annotation.__origin__)
    return Annotated[(inner, *others)] if others else inner


def _is_role(item: object) -> bool:
    return isinstance(item, Role) or (isinstance(item, type) and issubclass(item, Role))
