"""``ovvol-bench reproduce``: run again what a result says, and compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovvol_bench.cli.common import echo_table, plugin_option, registry_from, settings_option

if TYPE_CHECKING:
    from ovvol_bench.runs.reproduce import Check
    from ovvol_bench.runs.selection import Selection
    from ovvol_bench.runs.session import Finished


@click.command()
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@settings_option
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where the run folder goes.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-6,
    show_default=True,
    help="How far a number may be from the result's.",
)
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=4, show_default=True)
@plugin_option
@click.pass_context
def command(context: click.Context, /, result: Path, tolerance: float, **options: Any) -> None:
    """Run what RESULT.json says once more and print its numbers beside the new ones.

    The exit code is 1 if a number differs by more than the tolerance. Only where things lie can be set
    anew, as in -o dataset.path=ILSVRC2015 or -o encoder.weights=FILE.
    """
    from ovvol_bench.report.results_files import read_result
    from ovvol_bench.runs.reproduce import changes, checks, selection_of

    then = read_result(result)
    finished = _run(context, selection_of(then, options["settings"]), options)
    if finished.error:
        raise finished.error
    found = checks(then, finished.result)
    _print(found)
    for line in changes(then, finished.result):
        click.echo(line)
    differing = [check for check in found if check.difference > tolerance]
    equal = f"{len(found) - len(differing)} of {len(found)} numbers are equal within {tolerance:g}"
    click.echo(f"{equal}: {finished.folder.path}")
    if differing:
        context.exit(1)


def _run(context: click.Context, selection: Selection, options: dict[str, Any]) -> Finished:
    from ovvol_bench.cli.progress import progress_bars
    from ovvol_bench.runs.devices import pick_device
    from ovvol_bench.runs.session import Conduct, run_all

    with progress_bars("clips") as progress:
        conduct = Conduct(
            options["output"], pick_device(options["device"]), options["batch_size"], progress=progress
        )
        return run_all(selection, registry_from(context), conduct)[0]


def _print(found: Sequence[Check]) -> None:
    echo_table(
        [
            {
                "number": each.name,
                "then": _text(each.then),
                "now": _text(each.now),
                "difference": f"{each.difference:.1e}",
            }
            for each in found
        ]
    )


def _text(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.6f}"
