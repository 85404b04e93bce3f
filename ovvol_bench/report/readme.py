"""The README of a results folder: its tables, generated, so that they never say what the files don't."""

from __future__ import annotations

from pathlib import Path

from ovvol_bench.files import write_text
from ovvol_bench.report.references import REFERENCE_FOLDER, load_references, render_references
from ovvol_bench.report.results_files import load_results
from ovvol_bench.report.tables import render

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


def results_readme(folder: Path) -> str:
    """The README's text for the results in a folder.

    Raises:
        DataError: if the folder is missing or a result is malformed.
    """
    results = load_results([folder]).results
    body = render(results, style="markdown") if results else "No results yet."
    published = load_references(folder / REFERENCE_FOLDER)
    below = f"\n{_PUBLISHED}\n{render_references(published, 'markdown')}\n" if published else ""
    return f"{_HEAD}\n{body}\n{below}"


def write_results_readme(folder: Path) -> Path:
    """Write ``README.md`` into a results folder, atomically.

    Returns:
        The file's path.

    Raises:
        DataError: if the folder is missing or a result is malformed.
    """
    path = folder / "README.md"
    write_text(path, results_readme(folder))
    return path


def readme_is_stale(folder: Path) -> bool:
    """Whether the folder's README is missing or says something else than its results.

    Raises:
        DataError: if the folder is missing or a result is malformed.
    """
    path = folder / "README.md"
    return not path.is_file() or path.read_text(encoding="utf-8") != results_readme(folder)
