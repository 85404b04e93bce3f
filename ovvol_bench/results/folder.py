"""Folders of results: read them, add to them, check them, and write their README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ovvol_bench.errors import DataError, OutputError
from ovvol_bench.files import below, is_leftover, read_json, write_json, write_text
from ovvol_bench.results.references import REFERENCE_FOLDER, load_references, render_references
from ovvol_bench.results.schema import (
    Record,
    claims_to_be_result,
    is_reference,
    parse_result,
    read_result,
)
from ovvol_bench.results.tables import render
from ovvol_bench.throughput.record import FOLDER, is_throughput, load_throughput

_HEAD = """\
# Results

Generated from the JSON files in this folder by `ovvol-bench table results --readme results/README.md`;
do not edit.

One file a result, `<dataset>/<encoder>+<grouper>+<labeler>/<id>.json`, with every setting, version and
digest that it depends on. `%` columns are percentages, "±" is the sample standard deviation over seeds, a
dash means undefined. The best of a column is bold and the second underlined where the 95% interval of the
paired difference, over videos, to every row below excludes 0. Tables hold one dataset and one set of
protocols each: numbers of different tables do not compare, nor do speeds of different machines.
"""

_PUBLISHED = """\
## Published numbers

From `reference/*.json`, in percent as their sources print them, with the source, and whether it is the
method's own (reported) or somebody else's run of it (re-run). A table holds what one program computed.
Nothing here is ranked, with each other or with the results above: splits, resolutions and conventions
differ, and one method on one dataset differs by up to 11 points between sources.
"""


def read_results(paths: Iterable[Path]) -> tuple[dict[Path, Record], int]:
    """Read results from files, run folders and whole trees.

    A file that is named must hold a result. In folders, JSON files that are something else (run
    specs, annotations) are passed over and counted; a file that claims to be a result but is broken
    is an error everywhere.

    Returns:
        Results by path, each id on each machine once (the newest), and the number of files passed over.

    Raises:
        DataError: if a path is missing, or a result is malformed or of a newer schema; names the
            file and the field.
    """
    newest: dict[tuple[str, str], tuple[Path, Record]] = {}
    skipped = 0
    for path, named in _json_files(paths):
        document = read_json(path, strict=True)
        if named or claims_to_be_result(document):
            result = parse_result(document, str(path))
            # Copies have the same id and machine, as when runs/ and results/ are both read.
            _, known = newest.setdefault((result.id, result.machine.text), (path, result))
            if (result.date or "") > (known.date or ""):
                newest[result.id, result.machine.text] = (path, result)
        elif not is_reference(document) and not is_throughput(document):
            skipped += 1
    return dict(newest.values()), skipped


def add_results(runs: Iterable[Path], folder: Path) -> Iterator[Path]:
    """Copy finished results to their places in a folder; one that is there is replaced.

    Yields:
        The path of each, as it is written.

    Raises:
        DataError: if a path holds no finished result, or a result is malformed.
        OutputError: if a result's names lead out of the folder; nothing is written then.
    """
    done: list[tuple[Path, Record]] = []
    for run in runs:
        finished = []
        for path, named in _json_files([run]):
            document = read_json(path, strict=True)
            if named or claims_to_be_result(document):
                result = parse_result(document, str(path))
                if result.status == "done":
                    finished.append((folder / place_of(result), result))
        if not finished:
            raise DataError(
                f"{run}: no result of a finished run there. Give run folders, or trees of them, that "
                "`ovvol-bench run` has written to its end."
            )
        done += finished
    # All are read before the first is written, so that a broken one leaves the folder as it was.
    for path, result in done:
        write_json(path, result.to_json())
        yield path


def place_of(result: Record) -> Path:
    """Return the place of a result in a folder of results.

    Raises:
        OutputError: if its names lead out of the folder.
    """
    return below(Path(), result.dataset.name, result.title, f"{result.id}.json")


def problems(folder: Path) -> Iterator[str]:
    """Check a folder of results, and yield a line a problem.

    Every JSON file must be a result with the digest of its content, at
    ``<dataset>/<encoder>+<grouper>+<labeler>/<id>.json``, published numbers in ``reference/``, or speeds in
    ``throughput/``; the README must say what they say.

    Raises:
        DataError: if the folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the folder of the results, as in: results")
    found: list[str] = []
    for path in sorted(each for each in folder.rglob("*.json") if not is_leftover(each)):
        try:
            if path.parent == folder / FOLDER:
                load_throughput([path])
            elif path.parent != folder / REFERENCE_FOLDER:
                found += _problems_of_result(path, folder)
        except DataError as error:
            found.append(str(error))
    try:
        load_references(folder / REFERENCE_FOLDER)
    except DataError as error:
        found.append(str(error))
    yield from found
    # Broken results have no tables to compare the README with.
    if not found and readme_is_stale(folder):
        readme = folder / "README.md"
        yield f"{readme} is out of date. Run: ovvol-bench table {folder} --readme {readme}"


def write_results_readme(folder: Path) -> Path:
    """Write ``README.md`` into a results folder, atomically.

    Returns:
        The file's path.

    Raises:
        DataError: if the folder is missing or a result is malformed.
    """
    path = folder / "README.md"
    write_text(path, _readme_text(folder))
    return path


def readme_is_stale(folder: Path) -> bool:
    """Tell whether the folder's README is missing or says something else than its results.

    Raises:
        DataError: if the folder is missing or a result is malformed.
    """
    path = folder / "README.md"
    return not path.is_file() or path.read_text(encoding="utf-8") != _readme_text(folder)


def _json_files(paths: Iterable[Path]) -> Iterator[tuple[Path, bool]]:
    """Yield every JSON file below the paths, and True if it was named itself."""
    for path in paths:
        if path.is_file():
            yield path, True
        elif path.is_dir():
            found = (each for each in path.rglob("*.json") if each.is_file() and not is_leftover(each))
            yield from ((each, False) for each in sorted(found))
        else:
            raise DataError(
                f"{path}: no such file or folder. Give result files, run folders or trees of them."
            )


def _problems_of_result(path: Path, folder: Path) -> Iterator[str]:
    result = read_result(path)
    if result.digest is None:
        yield f"{path}: field 'digest' is missing; expected a result as `ovvol-bench run` writes it"
    asked, done = result.coverage.clips, result.coverage.done
    if result.status == "done" and done + sum(result.coverage.skipped.values()) < asked:
        yield f"{path}: {asked - done} of {asked} clips are missing without a reason; score the run again"
    try:
        place = place_of(result)
    except OutputError as error:
        yield f"{path}: {error}"
        return
    if path.relative_to(folder) != place:
        yield f"{path}: expected at {folder / place}, by its content"


def _readme_text(folder: Path) -> str:
    results, _ = read_results([folder])
    body = render(list(results.values()), style="markdown") if results else "No results yet."
    published = load_references(folder / REFERENCE_FOLDER)
    below = f"\n{_PUBLISHED}\n{render_references(published, 'markdown')}\n" if published else ""
    return f"{_HEAD}\n{body}\n{below}"
