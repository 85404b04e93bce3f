"""``ovvol-bench run``: localize with one combination of components, or with a matrix of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovvol_bench.api.run import (
    OnError,
    Overwrite,
    make_selection,
    raise_if_none_is_done,
    run_selection,
)
from ovvol_bench.cli.common import (
    PARTS,
    PATH,
    RUNNING,
    choice_option,
    echo_json,
    format_option,
    limit_option,
    names_option,
    part_options,
    plugin_option,
    preset_option,
    quiet_option,
    registry_from,
    running_options,
    seeds_option,
    settings_option,
    terminal_width,
    typed_settings,
)
from ovvol_bench.cli.completion import complete_names
from ovvol_bench.cli.overlay import overlays_of
from ovvol_bench.fidelity import Fidelity, Precision

if TYPE_CHECKING:
    from ovvol_bench.api.result import Results

MOST_LISTED = 10  # run folders named one by one


def read_range(_: click.Context, parameter: click.Parameter, text: str | None) -> tuple[int, int] | None:
    """Read two whole numbers with two dots between; None if the option was not given."""
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text or "")
    if text is not None and not match:
        raise click.BadParameter(f"'{text}' is no range; expected LOW..HIGH, as in 3..10")
    return (int(match[1]), int(match[2])) if match else None


@click.command()
@preset_option("A preset by name, or a YAML file.")
@click.option(
    "--matrix",
    type=PATH,
    metavar="FILE",
    help="A YAML file that lists components, seeds and settings; the command line counts before it.",
)
@part_options
@settings_option
@click.option(
    "--weights-from",
    type=PATH,
    metavar="FOLDER",
    help="Take the official checkpoints videomae.pth, grouping.pth, pacl.pth and clip.pt from a folder.",
)
@running_options
@choice_option(
    "--overwrite",
    Overwrite,
    "If the same run is there: refuse if it is complete, compute what is missing, or start anew.",
    default="missing",
)
@limit_option()
@names_option(
    "--metrics",
    shell_complete=complete_names("metric"),
    help="Score with these instead of the preset's; +NAME adds to them.",
)
@seeds_option(help="A run for each seed.")
@click.option(
    "--consensus",
    metavar="LOW..HIGH",
    callback=read_range,
    help="Merge the seeds into one grouping of LOW to HIGH groups; how many, says naming.consensus.",
)
@choice_option("--precision", Precision, "auto: bfloat16 for --fidelity fast where the hardware has it.")
@choice_option(
    "--fidelity", Fidelity, "reference: float32 and no shortcuts; by default the preset's.", default=None
)
@choice_option(
    "--on-error",
    OnError,
    "A frame that can't be read, a clip that gives NaN: stop, or leave it out and count it.",
)
@click.option(
    "--soft-masks",
    is_flag=True,
    help="Keep soft masks with the predictions, 8 bits a slot and patch (metrics' upsampling=bilinear).",
)
@click.option("--overlays/--no-overlays", default=False, help="Draw pictures and videos of each run.")
@format_option("text", "markdown", "json")
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, /, style: str, overlays: bool, **options: Any) -> None:
    """Localize and name objects, and score the result.

    Several encoders, groupers, labelers or seeds make a matrix, which takes one pass over the data.
    A run that was cut off is continued when the same command is given again.
    """
    registry = registry_from(context)
    typed = {kind: options[kind] for kind in PARTS if options[kind]}
    if options["metrics"]:
        typed["metric"] = options["metrics"]
    asked = ("preset", "matrix", "seeds", "consensus", "fidelity", "precision", "limit")
    selection = make_selection(
        registry, typed, typed_settings(options), **{name: options[name] for name in asked}
    )
    how = (*RUNNING, "overwrite", "on_error", "soft_masks")
    results = run_selection(registry, selection, **{name: options[name] for name in how})
    raise_if_none_is_done(results)
    for each in results if overlays else ():
        if each.path and not each.error:
            list(overlays_of(registry, each.path))
    if style == "json":
        echo_json([{**each.record.to_json(), "folder": str(each.path)} for each in results])
    else:
        _report(results, style, asked=bool(options["metrics"]))
    if any(each.error for each in results):
        context.exit(1)


def _report(results: Results, style: str, asked: bool) -> None:
    """Print the runs; every number has a column if its metric was ``asked`` for on the command line."""
    from ovvol_bench.results.frame import SPEED
    from ovvol_bench.results.schema import COMPONENTS

    numbers = dict.fromkeys(key.partition("@")[0] for each in results for key in each.record.metrics)
    columns = [*COMPONENTS, *numbers, SPEED] if asked else None
    click.echo(results.table(columns, style, width=terminal_width()) + "\n")
    lines = []
    for coverage in (each.coverage for each in results if each.record.status == "done"):
        done = f"{coverage.done} of {coverage.clips} clips, {coverage.frames} frames"
        skipped = (
            f"{count} skipped: {reason}" for reason, count in sorted(coverage.skipped.items()) if count
        )
        lines.append("; ".join([done, *skipped]))
    for timing in (each.record.timing for each in results):
        # Of clips that were computed, by a version that counted the reading.
        if timing.clips and timing.reading_cpu_s is not None:
            work, waited = timing.reading_cpu_s, timing.seconds["decode"]
            lines.append(f"frames: {work:.1f} s of work to read them, {waited:.1f} s waited for them")
    for line in (*dict.fromkeys(lines), *_note_lines(results), *_folder_lines(results)):
        click.echo(line)


def _note_lines(results: Results) -> Iterator[str]:
    """Notes on the runs, each with the runs that it is true of, if not of all."""
    runs_of: dict[str, list[str]] = {}
    for each in results:
        for note in each.notes:
            runs_of.setdefault(note, []).append(each.name)
    for note, runs in list(runs_of.items())[:MOST_LISTED]:
        names = list(dict.fromkeys(runs))
        yield note if len(runs) == len(results) else f"{', '.join(names[:3])}: {note}"
    if len(runs_of) > MOST_LISTED:
        yield f"{len(runs_of) - MOST_LISTED} more remarks; run fewer combinations at a time to see them"


def _folder_lines(results: Results) -> Iterator[str]:
    """List the places of runs: a line each, for many one for all that ended alike."""
    for status in dict.fromkeys(each.record.status for each in results):
        folders: list[Path] = [each.path for each in results if each.record.status == status and each.path]
        if len(folders) > MOST_LISTED:
            yield f"{status}: {len(folders)} runs in {commonpath(folders)}"
        else:
            yield from (f"{status}: {folder}" for folder in folders)
