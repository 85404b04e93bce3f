"""Results of runs and evaluations as objects, read from their files and compared with each other."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from ovvol_bench.errors import DataError, UnknownNameError, nearest
from ovvol_bench.files import write_json
from ovvol_bench.results.comparison import Compared, check_comparable, compared, comparison_text, records_of
from ovvol_bench.results.folder import read_results
from ovvol_bench.results.frame import SPEED, filtered, results_frame
from ovvol_bench.results.schema import COMPONENTS, Coverage, Record, Score
from ovvol_bench.results.tables import DEFAULT_COLUMNS, Block, make_blocks, render

if TYPE_CHECKING:
    from pandas import DataFrame


class UnknownNumberError(UnknownNameError, KeyError):
    """A result has no number of that name."""

    __str__ = Exception.__str__  # KeyError shows its text quoted


class Metrics(Mapping[str, float]):
    """Numbers of a result by name: ``ap50``, or ``ap50@vid-devkit`` where there are several protocols.

    Shares are in [0, 1]; an undefined number is NaN.

    Args:
        scores: the ``metrics`` object of a result.
    """

    def __init__(self, scores: Mapping[str, Score]) -> None:
        short = [key.partition("@")[0] for key in scores]
        self._scores = scores
        self._keys = {
            name if short.count(name) == 1 else key: key for name, key in zip(short, scores, strict=True)
        }

    def __getitem__(self, name: str) -> float:
        key = self._keys.get(name, name)
        if key not in self._scores:
            known = ", ".join(self._keys) or "none"
            raise UnknownNumberError(
                f"the result has no number '{name}'.{nearest(name, self._keys)} It has: {known}."
            )
        value = self._scores[key].value
        return math.nan if value is None else value

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __repr__(self) -> str:
        return f"Metrics({dict(self)})"


class Result:
    """Result of one combination on a dataset, or of a file of predictions.

    Attributes:
        record: content of ``result.json``, field by field; see docs/results.md.
        path: folder of the run, or the file that the result is in; None where nothing was written.
        notes: remarks, such as metrics that were left out and why.
        error: what ended the run, None if it is done.
    """

    def __init__(
        self,
        record: Record,
        path: Path | None = None,
        notes: Iterable[str] = (),
        error: Exception | None = None,
    ) -> None:
        self.record = record
        self.path = path
        self.notes = tuple(notes)
        self.error = error

    @property
    def metrics(self) -> Metrics:
        """Numbers by name, as in ``metrics["corloc_any"]``; none if the run failed."""
        return Metrics(self.record.metrics)

    @property
    def name(self) -> str:
        """Encoder, grouper and labeler as ``videomae+kmeans+pacl``, or the name of another method."""
        return self.record.title

    @property
    def coverage(self) -> Coverage:
        """Clips asked for and done, and reasons to skip clips with their counts."""
        return self.record.coverage

    def table(
        self, columns: Sequence[str] | None = None, style: str = "text", *, width: int | None = None
    ) -> str:
        """Lay the result out, see ``Results.table``."""
        return Results([self]).table(columns, style, width=width)

    def save(self, path: str | Path) -> Path:
        """Write the record as a JSON file, which ``load_results`` reads.

        Raises:
            SettingError: if it can't be written.
        """
        write_json(Path(path), self.record.to_json())
        return Path(path)

    def to_pandas(self) -> DataFrame:
        """Make a frame of one row, see ``Results.to_pandas``."""
        return Results([self]).to_pandas()

    def __str__(self) -> str:
        return "\n".join([self.table(), *(["", *self.notes] if self.notes else [])])

    def __repr__(self) -> str:
        numbers = ", ".join(f"{name}={value:.3g}" for name, value in self.metrics.items())
        return f"<Result {self.name} on {self.record.dataset.name}: {numbers or self.record.status}>"

    def _repr_html_(self) -> str:
        return Results([self])._repr_html_()


class Results(Sequence[Result]):
    """Results in a fixed order, failed ones too: those of a matrix, or those found in files.

    Attributes:
        skipped: JSON files that were found beside them and hold no result.
    """

    def __init__(self, results: Iterable[Result], skipped: int = 0) -> None:
        self._results = tuple(results)
        self.skipped = skipped

    @property
    def records(self) -> list[Record]:
        """Contents of the result files."""
        return [each.record for each in self]

    def where(self, *filters: str) -> Results:
        """Results that meet all filters.

        Args:
            filters: ``KEY=VALUE,...``, as of ``ovvol-bench table``: ``grouper=kmeans,grid``, ``seed=0``.

        Raises:
            SettingError: if a filter is malformed or names what no result has.
            DataError: if no result is left.
        """
        left = {id(record) for record in filtered(self.records, filters)}
        return Results((each for each in self if id(each.record) in left), self.skipped)

    def table(
        self,
        columns: Sequence[str] | None = None,
        style: str = "text",
        *,
        sort_by: str | None = None,
        by: str = "dataset",
        width: int | None = None,
    ) -> str:
        """Lay the results out as tables, one a dataset and protocol; seeds are averaged.

        Args:
            columns: metrics (``ap50``), components, ``clips_per_s``, settings (``grouper.num_slots``); None
                for the usual ones.
            style: ``text``, ``markdown``, ``latex``, ``html``, ``csv`` or ``json``.
            sort_by: column that orders the rows, best first.
            by: ``dataset``, or a kind of component that gets a table of its own for each name.
            width: characters of a line that text is to fit in; None for any.

        Raises:
            SettingError: if a column, the style or ``by`` is unknown.
        """
        return render(self.records, columns, style, sort_by=sort_by, by=by, spans=True, width=width)

    def to_pandas(self) -> DataFrame:
        """Make a frame of a row a result: dataset, components, seed, numbers, speed, clips, status, id, path.

        Shares are in [0, 1], undefined numbers NaN. A number has its protocol in its name where the results
        have several.
        """
        from pandas import DataFrame

        keys = list(dict.fromkeys(key for record in self.records for key in record.metrics))
        short = [key.partition("@")[0] for key in keys]
        names = {key: name if short.count(name) == 1 else key for name, key in zip(short, keys, strict=True)}
        return DataFrame([_row(result, names) for result in self])

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> Results: ...
    def __getitem__(self, index: int | slice) -> Result | Results:
        return Results(self._results[index]) if isinstance(index, slice) else self._results[index]

    def __len__(self) -> int:
        return len(self._results)

    def __str__(self) -> str:
        return self.table() if self else "no results"

    def __repr__(self) -> str:
        return f"<Results: {len(self)}>"

    def _repr_html_(self) -> str:
        return self.table(style="html") if self else "no results"


def _row(result: Result, names: Mapping[str, str]) -> dict[str, Any]:
    record = result.record
    scores = {name: result.metrics[key] for key, name in names.items() if key in result.metrics}
    parts = ("method",) if record.method else COMPONENTS
    return {
        "dataset": record.dataset.name,
        "split": record.dataset.split,
        **dict(zip(parts, record.names, strict=False)),
        "seed": ", ".join(map(str, record.all_seeds)),
        **scores,
        SPEED: record.timing.clips_per_s,
        "clips": result.coverage.clips,
        "done": result.coverage.done,
        "status": record.status,
        "id": record.id,
        "path": None if result.path is None else str(result.path),
    }


class Comparison:
    """Differences of numbers between one row and others, paired over videos.

    Seeds of a combination are one row, unless there is only one combination: then each is a row.

    Attributes:
        differences: of every number, the first row minus each other.
    """

    def __init__(self, block: Block, differences: Sequence[Compared], corrected: bool) -> None:
        self._block = block
        self._corrected = corrected
        self.differences = tuple(differences)

    def table(self, style: str = "text", *, width: int | None = None) -> str:
        """Lay out the rows and their differences; ``csv`` and ``json`` hold the differences alone.

        Args:
            style: as for ``Results.table``.
            width: as for ``Results.table``.

        Raises:
            SettingError: if the style is unknown.
        """
        return comparison_text(self._block, self.differences, style, self._corrected, width=width)

    def to_pandas(self) -> DataFrame:
        """Make a frame of a row a difference: ``first``, ``other``, ``number``, ``difference`` and more.

        ``low`` and ``high`` bound its 95% interval; they are NaN where videos are too few or unknown.
        """
        from pandas import DataFrame

        return DataFrame(records_of(self.differences))

    def __getitem__(self, number: str) -> Compared:
        found = [each for each in self.differences if number in (each.column.key, each.number)]
        if not found:
            known = list(dict.fromkeys(each.number for each in self.differences))
            raise UnknownNumberError(
                f"the comparison has no number '{number}'.{nearest(number, known)} "
                f"It has: {', '.join(known)}."
            )
        return found[0]

    def __str__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        return self.table("html")


def load_results(*places: str | Path, where: str | Sequence[str] = ()) -> Results:
    """Read results from result files, run folders and trees of them.

    Args:
        places: files and folders; by default those of ``results`` and ``runs`` that are there.
        where: filters, see ``Results.where``.

    Returns:
        Results in the order of their files, each run once a machine.

    Raises:
        DataError: if there are none, or one is malformed; names file and field.
        SettingError: if a filter is malformed.

    >>> from pathlib import Path
    >>> stored = load_results(Path(__file__).parents[2] / "results", where="encoder=random")
    >>> sorted({result.record.grouper.name for result in stored})[:2]
    ['agglomerative', 'grid']
    """
    found = [Path(place) for place in places or ("results", "runs")]
    if not places:
        found = [place for place in found if place.is_dir()]
    records, skipped = read_results(found)
    if not records:
        said = ", ".join(map(str, found)) or "results/ and runs/ (neither is here)"
        raise DataError(f"no results in {said}. Make some with: ovvol-bench run")
    of_runs = (path.parent if path.name == "result.json" else path for path in records)
    results = Results(map(Result, records.values(), of_runs), skipped)
    filters = [where] if isinstance(where, str) else where
    return results.where(*filters) if filters else results


def compare(
    *results: Result | Results | str | Path,
    columns: Sequence[str] | None = None,
    best_first: bool = False,
    sort_by: str | None = None,
    correct: bool = False,
) -> Comparison:
    """Compare the first result with the others, on the same clips under the same protocols.

    Args:
        results: at least two, or a collection; a place stands for the results that ``load_results`` finds.
        columns: numbers to compare, as for ``Results.table``; None for the usual ones that are there.
        best_first: compare the best with the others, not the first.
        sort_by: column that says which is best; by default the first number.
        correct: adjust p-values for the number of comparisons (Holm).

    Raises:
        OvvolError: if there are fewer than two, or they ran on different data or protocols.
        SettingError: if a column is unknown.
    """
    loaded = [load_results(each) if isinstance(each, str | Path) else each for each in results]
    records = [
        record for each in loaded for record in (each.records if isinstance(each, Results) else [each.record])
    ]
    check_comparable(records)
    numbers = dict.fromkeys(key.partition("@")[0] for record in records for key in record.metrics)
    shown = [name for name in numbers if name in DEFAULT_COLUMNS] or numbers
    names = ["id", *(columns or (*COMPONENTS, *shown, SPEED))]
    several = results_frame(records)["combination"].nunique() > 1
    (block,) = make_blocks(records, names, sort_by=sort_by, merge_seeds=several)
    if not (best_first or sort_by):
        place = {id(record): position for position, record in enumerate(records)}
        first = {row: min(place[id(each)] for each in found) for row, found in block.rows["results"].items()}
        block = block.in_order(sorted(first, key=first.__getitem__))
    return Comparison(block, compared(block, correct), correct)
