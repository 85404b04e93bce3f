"""``ovvol-bench run``: localize with one combination of components, or with a matrix of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ovvol_bench.api.run import (
    Fidelity,
    OnError,
    Overwrite,
    Precision,
    make_selection,
    raise_if_none_is_done,
    run_selection,
    with_weights,
)
from ovvol_bench.cli.common import (
    Decorated,
    Settings,
    echo_json,
    format_option,
    names_option,
    plugin_option,
    preset_option,
    quiet_option,
    registry_from,
    settings_option,
    terminal_width,
)
from ovvol_bench.cli.completion import complete_names
from ovvol_bench.cli.running import RUNNING, running_options

if TYPE_CHECKING:
    from ovvol_bench.api.result import Results
    from ovvol_bench.registry import Registry
    from ovvol_bench.results.schema import Coverage, Timing

PARTS = ("encoder", "grouper", "labeler", "dataset")
MOST_LISTED = 10  # run folders named one by one


def seeds_option(text: str) -> Callable[[Decorated], Decorated]:
    """Add ``--seeds``: whole numbers from 0 between commas; given several times, they add up.

    The function gets a tuple, or None if the option was not given.
    """
    return click.option("--seeds", metavar="SEED,...", multiple=True, callback=_read_seeds, help=text)


def _read_seeds(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> tuple[int, ...] | None:
    for text in texts:
        if not re.fullmatch(r"\d+(,\d+)*", text):
            raise click.BadParameter(f"'{text}' is no list of seeds; expected numbers, as in 0,1,2")
    return tuple(int(seed) for text in texts for seed in text.split(",")) or None


def read_range(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[int, int] | None:
    """Two whole numbers with two dots between; None if the option was not given."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)\.\.(\d+)", text)
    if not match:
        raise click.BadParameter(f"'{text}' is no range; expected LOW..HIGH, as in 3..10")
    return int(match[1]), int(match[2])


def part_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--encoder``, ``--grouper``, ``--labeler`` and ``--dataset``."""
    for kind in reversed(PARTS):
        every = "" if kind == "dataset" else ", or all"
        text = f"One {kind} or several{every}; by default the preset's."
        command = names_option(f"--{kind}", help=text, shell_complete=complete_names(kind))(command)
    return command


@click.command()
@preset_option("A preset by name, or a YAML file.")
@click.option(
    "--matrix",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A YAML file that lists components, seeds and settings; the command line counts before it.",
)
@part_options
@settings_option
@click.option(
    "--weights-from",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Take the official checkpoints videomae.pth, grouping.pth, pacl.pth and clip.pt from a folder.",
)
@running_options
@click.option(
    "--overwrite",
    type=click.Choice(get_args(Overwrite)),
    default="missing",
    show_default=True,
    help="If the same run is there: refuse if it is complete, compute what is missing, or start anew.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="CLIPS", help="Only the first so many clips.")
@names_option(
    "--metrics",
    shell_complete=complete_names("metric"),
    help="Score with these instead of the preset's; +NAME adds to them.",
)
@seeds_option("A run for each seed.")
@click.option(
    "--consensus",
    metavar="LOW..HIGH",
    callback=read_range,
    help="Merge the seeds into one grouping of LOW to HIGH groups; how many, says naming.consensus.",
)
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="auto",
    show_default=True,
    help="auto: bfloat16 for --fidelity fast where the hardware has it.",
)
@click.option(
    "--fidelity",
    type=click.Choice(get_args(Fidelity)),
    help="reference: float32 and no shortcuts; by default the preset's.",
)
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="fail",
    show_default=True,
    help="A frame that can't be read, a clip that gives NaN: stop, or leave it out and count it.",
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
    if overlays:
        _draw(registry, results)
    _report(results, style, asked=bool(options["metrics"]))
    if any(each.error for each in results):
        context.exit(1)


def typed_settings(options: Mapping[str, Any]) -> Settings:
    """Join what ``-o`` and ``--weights-from`` set; the former counts where both do."""
    settings: Settings = options["settings"]
    return with_weights(settings, options["weights_from"]) if options["weights_from"] else settings


def _draw(registry: Registry, results: Results) -> None:
    from ovvol_bench.report.overlays import write_overlays
    from ovvol_bench.runs.predictions import read_predictions
    from ovvol_bench.runs.rescore import same_dataset
    from ovvol_bench.runs.store import RunFolder

    for each in results:
        if not each.error and each.path:
            folder = RunFolder(each.path)
            dataset = same_dataset(registry, folder.read_spec())
            write_overlays(folder.path, dataset, read_predictions(folder.predictions), folder.overlays)


def _report(results: Results, style: str, asked: bool) -> None:
    """Print the runs; every number has a column if its metric was ``asked`` for on the command line."""
    from ovvol_bench.results.frame import SPEED
    from ovvol_bench.results.schema import COMPONENTS

    if style == "json":
        echo_json([{**each.record.to_json(), "folder": str(each.path)} for each in results])
        return
    numbers = dict.fromkeys(key.partition("@")[0] for each in results for key in each.record.metrics)
    columns = [*COMPONENTS, *numbers, SPEED] if asked else None
    click.echo(results.table(columns, style, width=terminal_width()) + "\n")
    coverage = [coverage_text(each.coverage) for each in results if each.record.status == "done"]
    # Those of clips that were computed, by a version that counted the reading.
    timings = [each.record.timing for each in results if each.record.timing.clips]
    reading = [reading_text(timing) for timing in timings if timing.reading_cpu_s is not None]
    for line in (*dict.fromkeys(coverage), *dict.fromkeys(reading), *_note_lines(results)):
        click.echo(line)
    for line in _folder_lines(results):
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
        folders = [each.path for each in results if each.record.status == status and each.path]
        if len(folders) > MOST_LISTED:
            yield f"{status}: {len(folders)} runs in {commonpath(folders)}"
        else:
            yield from (f"{status}: {folder}" for folder in folders)


def reading_text(timing: Timing) -> str:
    """Report on one line what reading frames took, and how much of it the models waited for."""
    work, waited = timing.reading_cpu_s, timing.seconds["decode"]
    return f"frames: {work:.1f} s of work to read them, {waited:.1f} s waited for them"


def coverage_text(coverage: Coverage) -> str:
    """Report on one line the clips done of those asked for, frames, and what was skipped and why."""
    skipped = [f"{count} skipped: {reason}" for reason, count in sorted(coverage.skipped.items()) if count]
    line = f"{coverage.done} of {coverage.clips} clips, {coverage.frames} frames"
    return "; ".join([line, *skipped])
