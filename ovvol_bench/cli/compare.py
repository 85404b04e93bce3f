"""``ovvol-bench compare``: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ovvol_bench.cli.common import format_option, names_option


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@names_option("--columns", help="As for `ovvol-bench table`.")
@click.option("--sort-by", metavar="NAME", help="Column that orders the rows, best first.")
@click.option("--correct", is_flag=True, help="Adjust p-values for the number of comparisons (Holm).")
@format_option("text", "markdown", "csv", "latex", "html", "json")
def command(
    runs: tuple[Path, ...], columns: Sequence[str] | None, sort_by: str | None, correct: bool, style: str
) -> None:
    """Print one row a run, best first, and the first one's differences to the others, paired over videos.

    RUNS are run folders, result files or trees of them, on the same clips and scored under the same
    protocols. Seeds of a combination are averaged.
    """
    from ovvol_bench.report.comparison import compare
    from ovvol_bench.report.results_files import load_results

    click.echo(compare(load_results(runs).results, columns, style, sort_by, correct))
