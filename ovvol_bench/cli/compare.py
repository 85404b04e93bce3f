"""``ovvol-bench compare``: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ovvol_bench.cli.common import format_option
from ovvol_bench.cli.table import split_names


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--columns", metavar="NAME,...", callback=split_names, help="As for `ovvol-bench table`.")
@click.option("--sort-by", metavar="NAME", help="Column that orders the rows, best first.")
@format_option("text", "markdown", "csv", "latex", "html", "json")
def command(runs: tuple[Path, ...], columns: Sequence[str] | None, sort_by: str | None, style: str) -> None:
    """Print one row a run, best first; for two runs also the difference.

    RUNS are run folders or result files, on the same clips and scored under the same protocols.
    """
    from ovvol_bench.report.comparison import compare
    from ovvol_bench.report.results_files import load_results

    click.echo(compare(load_results(runs).results, columns, style, sort_by))
