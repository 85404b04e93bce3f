"""Roles of settings in a run, said by annotations: ``weights: Annotated[Path | None, Weights] = None``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from operator import or_
from types import UnionType
from typing import Annotated, Any, ClassVar, Union, get_args, get_origin

from ovvol_bench.errors import PluginError


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
            raise PluginError(
                f"{type(self).__name__}({self.what!r}): expected one of {', '.join(map(repr, self.known))}"
            )

    @property
    def text(self) -> str:
        """A few words for lists of settings."""
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
    for item in getattr(annotation, "__metadata__", ()):
        if isinstance(item, Role):
            yield item
        elif isinstance(item, type) and issubclass(item, Filled):
            raise PluginError(f"{item.__name__} says what follows, as in {item.__name__}({item.known[0]!r})")
        elif _is_role(item):
            yield item()  # Annotated[Path, Located], without brackets
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
