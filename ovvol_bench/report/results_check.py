"""Whether a folder of results is in order: schema, digests, places, and the README made from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from ovvol_bench.errors import DataError, OutputError
from ovvol_bench.files import below, is_leftover, write_json
from ovvol_bench.report.readme import readme_is_stale
from ovvol_bench.report.references import REFERENCE_FOLDER, load_references
from ovvol_bench.report.results_files import Result, read_result, result_documents
from ovvol_bench.report.rows import names_of
from ovvol_bench.throughput.files import FOLDER, load_throughput


def problems(folder: Path) -> Iterator[str]:
    """What is wrong in a folder of results, a line each; nothing if it is in order.

    Every JSON file must be a result with the digest of its content, at
    ``<dataset>/<encoder>+<grouper>+<labeler>/<id>.json``, published numbers in ``reference/``, or speeds in
    ``throughput/``; the README must say what they say.

    Raises:
        DataError: if the folder is missing.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Give the folder of the results, as in: results")
    found = list(_of_results(folder))
    yield from found
    if not found and readme_is_stale(folder):
        readme = folder / "README.md"
        yield f"{readme} is out of date. Run: ovvol-bench table {folder} --readme {readme}"


def _of_results(folder: Path) -> Iterator[str]:
    for path in sorted(each for each in folder.rglob("*.json") if not is_leftover(each)):
        if path.parent == folder / FOLDER:
            yield from _of_throughput(path)
        elif path.parent != folder / REFERENCE_FOLDER:
            yield from _of_result(path, folder)
    try:
        load_references(folder / REFERENCE_FOLDER)
    except DataError as error:
        yield str(error)


def _of_result(path: Path, folder: Path) -> Iterator[str]:
    try:
        result = read_result(path)
    except DataError as error:
        yield str(error)
        return
    if "digest" not in result:
        yield f"{path}: field 'digest' is missing; expected a result as `ovvol-bench run` writes it"
    coverage = result.get("coverage", {})
    asked, done = coverage.get("clips", 0), coverage.get("done", 0)
    if result["status"] == "done" and done + sum(coverage.get("skipped", {}).values()) < asked:
        yield f"{path}: {asked - done} of {asked} clips are missing without a reason; score the run again"
    try:
        place = place_of(result)
    except OutputError as error:
        yield f"{path}: {error}"
        return
    if path.relative_to(folder) != place:
        yield f"{path}: expected at {folder / place}, by its content"


def _of_throughput(path: Path) -> Iterator[str]:
    try:
        load_throughput([path])
    except DataError as error:
        yield str(error)


def place_of(result: Result) -> Path:
    """Where a result belongs in a folder of results.

    Raises:
        OutputError: if its names lead out of the folder.
    """
    parts = "+".join(filter(None, names_of(result)))
    return below(Path(), result["dataset"]["name"], parts, f"{result['id']}.json")


def add_results(runs: Iterable[Path], folder: Path) -> Iterator[Path]:
    """Copy finished results to their places in a folder; one that is there is replaced.

    Yields:
        The path of each, as it is written.

    Raises:
        DataError: if a path holds no finished result, or a result is malformed.
        OutputError: if a result's names lead out of the folder; nothing is written then.
    """
    done = []
    for run in runs:
        finished = [each for each in result_documents([run]) if each[1]["status"] == "done"]
        if not finished:
            raise DataError(
                f"{run}: no result of a finished run there. Give run folders, or trees of them, that "
                "`ovvol-bench run` has written to its end."
            )
        done += finished
    places = [folder / place_of(result) for _, result in done]
    for path, (document, _) in zip(places, done, strict=True):
        write_json(path, document)
        yield path
