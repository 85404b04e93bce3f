"""``ovvol-bench results``: a folder of results, kept in order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from ovvol_bench.cli.common import PATH, echo_json


@click.group()
def command() -> None:
    """Keep a folder of results, such as results/, in order."""


@command.command()
@click.argument("folder", type=PATH, default=Path("results"))
@click.pass_context
def check(context: click.Context, folder: Path) -> None:
    """Check schema, digests and places of all results, and that the README is made from them."""
    from ovvol_bench.results.folder import problems

    found = list(problems(folder))
    for line in found:
        click.echo(line, err=True)
    if found:
        context.exit(1)
    click.echo(f"{folder} is in order")


@command.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--to", "folder", type=PATH, default=Path("results"))
def add(runs: Sequence[Path], folder: Path) -> None:
    """Copy the results of RUNS (run folders, or trees of them) to their places, and write the README anew."""
    from ovvol_bench.results.folder import add_results, write_results_readme

    for path in add_results(runs, folder):
        click.echo(path)
    write_results_readme(folder)


@command.command()
def schema() -> None:
    """Print the JSON Schema of a result file."""
    from ovvol_bench.results.schema import json_schema

    echo_json(json_schema())
