"""``ovvol-bench reproduce``: run again what a result says, and compare."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import click

from ovvol_bench.api.run import run_selection
from ovvol_bench.cli.common import (
    RUNNING,
    echo_table,
    plugin_option,
    quiet_option,
    registry_from,
    running_options,
    settings_option,
)
from ovvol_bench.errors import SettingError


@click.command()
@click.argument("result", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@settings_option
@running_options
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    default=1e-6,
    help="How far a number may be from the result's; of shares, printed in percent, 0.01 is a point.",
)
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, /, result: Path, tolerance: float, **options: Any) -> None:
    """Run what RESULT.json says once more and print its numbers beside the new ones.

    The exit code is 1 if a number differs by more than the tolerance. Only where things lie can be set
    anew, as in -o dataset.path=ILSVRC2015 or -o encoder.weights=FILE.
    """
    if math.isnan(tolerance):
        raise SettingError("--tolerance nan: expected a number, at least 0")
    from ovvol_bench.results.layout import is_share, number_text, with_unit
    from ovvol_bench.results.schema import read_result
    from ovvol_bench.runs.reproduce import changes, checks, selection_of

    then = read_result(result)
    registry = registry_from(context)
    selection = selection_of(registry, then, options["settings"])
    (again,) = run_selection(registry, selection, **{name: options[name] for name in RUNNING})
    if again.error:
        raise again.error
    found = checks(then, again.record)
    rows = []
    for each in found:  # six decimals of a number, of a share in percent four, and points between shares
        share = is_share(each.name, (each.then, each.now))
        before, now = (
            number_text(value, share, decimals=4 if share else 6) for value in (each.then, each.now)
        )
        difference = f"{100 * each.difference if share else each.difference:.1e}"
        number = with_unit(each.name, share)
        rows.append({"number": number, "then": before, "now": now, "difference": difference})
    echo_table(rows)
    for line in changes(then, again.record):
        click.echo(line)
    differing = [check for check in found if check.difference > tolerance]
    within = f"within {tolerance:g} ({100 * tolerance:g} points of a percentage)"
    click.echo(f"{len(found) - len(differing)} of {len(found)} numbers are equal {within}: {again.path}")
    if differing:
        context.exit(1)
