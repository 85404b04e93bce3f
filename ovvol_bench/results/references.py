"""Published numbers, each with its source: shown beside results, never ranked with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired

from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from ovvol_bench.errors import DataError
from ovvol_bench.files import read_json
from ovvol_bench.results.layout import MISSING, Grid, TextColumn

REFERENCE_FOLDER = "reference"
"""Of published numbers, in a folder of results."""

_STRICT = ConfigDict(extra="forbid")


class PublishedValue(TypedDict):
    """A number as its source prints it, percent; ``std`` over seeds where it has one."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    value: float
    std: NotRequired[float]


class ReferenceRow(TypedDict):
    """Method in a source."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    method: str
    kind: Literal["unsupervised", "zero-shot detector", "supervised"]
    metrics: dict[str, PublishedValue]
    status: Literal["reported", "re-run"]
    source: str
    backbone: NotRequired[str]
    slots: NotRequired[int]
    max_objects: NotRequired[int]
    resolution: NotRequired[str]
    seeds: NotRequired[list[int]]
    seeds_count: NotRequired[int]
    note: NotRequired[str]


class References(TypedDict):
    """Numbers that were computed alike: one dataset, split and protocol.

    ``protocol`` is one of this project's ids, or a name for the program that the source used.
    """

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    schema: Literal[1]
    reference: Literal[True]
    dataset: str
    split: str
    protocol: str
    note: NotRequired[str]
    rows: list[ReferenceRow]


_REFERENCES = TypeAdapter(References)


def load_references(folder: Path) -> list[References]:
    """Read all files of published numbers in a folder, by dataset, protocol and file name.

    Raises:
        DataError: if a file is malformed; names it, the first wrong field and what was expected.
    """
    found = [_parse(path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda each: (each["dataset"], each["protocol"]))


def render_references(references: Sequence[References], style: str, *, width: int | None = None) -> str:
    """Lay published numbers out, a table a dataset and protocol.

    Args:
        references: from ``load_references``.
        style: ``text``, ``markdown``, ``latex`` or ``html``.
        width: see ``Grid.render``.
    """
    return "\n\n".join(reference_grid(each).render(style, width=width) for each in references)


def reference_grid(references: References) -> Grid:
    """Put one table into words: nothing is bold, as nothing is ranked."""
    rows = references["rows"]
    metrics = list(dict.fromkeys(name for row in rows for name in row["metrics"]))
    numbers = {
        f"{name} %": [_percent(row["metrics"][name]) if name in row["metrics"] else MISSING for row in rows]
        for name in metrics
    }
    details = [name for name in ("backbone", "slots", "resolution") if any(name in row for row in rows)]
    words = {
        name: [str(row.get(name, "")) for row in rows]
        for name in ("method", "kind", *details, "status", "source")
    }
    cells = {"method": words.pop("method")} | numbers | words
    columns = [
        TextColumn(header, each, numeric=header in numbers, prose=header in ("method", "source"))
        for header, each in cells.items()
    ]
    notes = [references["note"]] if "note" in references else []
    notes += [f"{row['method']}: {row['note']}" for row in rows if "note" in row]
    where = (references["dataset"], f"split: {references['split']}", references["protocol"])
    title = " · ".join([*where, "published, not ranked"])
    least_important = [list(cells).index(name) for name in (*reversed(details), "kind")]
    least_important += range(len(metrics), 1, -1)  # numbers from the right; the first stays
    return Grid(title, columns, list(dict.fromkeys(notes)), least_important)


def _percent(number: PublishedValue) -> str:
    return f"{number['value']:.1f}" + (f" ± {number['std']:.1f}" if "std" in number else "")


def _parse(path: Path) -> References:
    document = read_json(path, strict=True)
    try:
        return _REFERENCES.validate_python(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        raise DataError(
            f"{path}: not a file of published numbers: field '{field}': {first['msg']}. See docs/results.md."
        ) from None
