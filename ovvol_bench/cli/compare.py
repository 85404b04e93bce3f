"""``ovvol-bench compare``: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence

import click

from ovvol_bench.cli.common import format_option, names_option, terminal_width
from ovvol_bench.cli.table import load


@click.command()
@click.argument("what", nargs=-1, required=True, metavar="PATHS [FILTERS]")
@names_option("--columns", help="As for `ovvol-bench table`.")
@click.option("--sort-by", metavar="NAME", help="Column that orders the rows, best first.")
@click.option("--correct", is_flag=True, help="Adjust p-values for the number of comparisons (Holm).")
@format_option("text", "markdown", "csv", "latex", "html", "json")
def command(
    what: tuple[str, ...], columns: Sequence[str] | None, sort_by: str | None, correct: bool, style: str
) -> None:
    """Print one row a run, best first, and the first one's differences to the others, paired over videos.

    PATHS are run folders, result files or trees of them, on the same clips and scored under the same
    protocols; FILTERS are those of `ovvol-bench table`, as grouper=kmeans,slot_attention dataset.videos=300.
    Seeds of a combination are averaged.
    """
    from ovvol_bench.api.result import compare

    found = compare(load(what), columns=columns, best_first=True, sort_by=sort_by, correct=correct)
    click.echo(found.table(style, width=terminal_width()))
