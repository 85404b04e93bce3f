"""``ovvol-bench table``: results as tables, always rebuilt from their files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ovvol_bench.cli.common import PATH, choice_option, format_option, names_option, terminal_width
from ovvol_bench.errors import DataError, SettingError

if TYPE_CHECKING:
    from ovvol_bench.api.result import Results


@click.command()
@click.argument("what", nargs=-1, metavar="[PATHS] [FILTERS]")
@choice_option(
    "--by",
    ("dataset", "encoder", "grouper", "labeler"),
    "What gets a table of its own; different datasets and protocols always do.",
)
@names_option(
    "--columns",
    help="Metrics (ap50, ap50@vid-devkit), clips_per_s, components, settings (grouper.num_slots).",
)
@click.option("--sort-by", metavar="NAME", help="Column that orders the rows, best first.")
@format_option("text", "markdown", "csv", "latex", "html", "json")
@click.option(
    "--references",
    type=PATH,
    help="Print the published numbers of this folder, as results/reference, for the datasets of the tables.",
)
@click.option("--readme", type=PATH, help="Write the tables of this README's folder.")
@click.option("--check", is_flag=True, help="With --readme: write nothing, exit with 1 if it is out of date.")
def command(  # noqa: PLR0913 - one parameter an option
    what: tuple[str, ...],
    *,
    by: str,
    columns: Sequence[str] | None,
    sort_by: str | None,
    style: str,
    references: Path | None,
    readme: Path | None,
    check: bool,
) -> None:
    """Print tables of results, one a dataset and protocol.

    PATHS are result files, run folders, or trees of them; by default results/ and runs/.
    FILTERS, as grouper=kmeans,grid seed=0 grouper.num_slots=7, leave the results that meet all of them.
    """
    paths, filters = sorted_out(what)
    if check and readme is None:
        raise SettingError("--check needs --readme FILE, the file to check.")
    if readme is not None:
        if filters:
            raise SettingError(f"--readme shows all results of its folder; drop the filter {filters[0]}")
        _readme(readme, paths, check)
        return
    if references is not None and not references.is_dir():
        raise DataError(f"--references {references}: no such folder. Give one of published numbers.")
    results = load(what)
    click.echo(results.table(columns, style, sort_by=sort_by, by=by, width=terminal_width()))
    if references is not None:
        _print_references(references, {record.dataset.name for record in results.records}, style)


def sorted_out(what: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Paths and filters: what has a "=" is a filter, unless it is there as a file or folder."""
    filters = [text for text in what if "=" in text and not Path(text).exists()]
    return [Path(text) for text in what if text not in filters], filters


def load(what: Sequence[str]) -> Results:
    """Load the results of places that meet filters; what was passed over is said.

    Raises:
        DataError: if there are none.
    """
    from ovvol_bench.api.result import load_results

    paths, filters = sorted_out(what)
    results = load_results(*paths, where=filters)
    if results.skipped:
        click.echo(f"{results.skipped} JSON files that hold no result were passed over", err=True)
    return results


def _print_references(folder: Path, datasets: set[str], style: str) -> None:
    from ovvol_bench.results.references import load_references, render_references

    if style in ("csv", "json"):
        raise SettingError(f"--references has no {style} form; expected text, markdown, latex or html")
    found = [each for each in load_references(folder) if each["dataset"] in datasets]
    if found:
        click.echo("\n" + render_references(found, style, width=terminal_width()))
    else:
        click.echo(f"no published numbers in {folder} for {', '.join(sorted(datasets))}", err=True)


def _readme(path: Path, paths: Sequence[Path], check: bool) -> None:
    from ovvol_bench.results.folder import readme_is_stale, write_results_readme

    folder = path.parent
    if path.name != "README.md" or any(place.resolve() != folder.resolve() for place in paths):
        raise SettingError(
            f"--readme {path}: expected the README.md in the folder of the results that it shows, "
            "as in: ovvol-bench table results --readme results/README.md"
        )
    if not check:
        click.echo(f"wrote {write_results_readme(folder)}")
    elif readme_is_stale(folder):
        click.echo(f"{path} is out of date. Run: ovvol-bench table {folder} --readme {path}", err=True)
        raise click.exceptions.Exit(1)
