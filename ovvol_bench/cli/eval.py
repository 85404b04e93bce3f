"""``ovvol-bench eval``: score stored predictions again, without any model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovvol_bench.api.run import OnError
from ovvol_bench.cli.common import (
    PATH,
    choice_option,
    echo_json,
    echo_table,
    format_option,
    names_option,
    plugin_option,
    quiet_option,
    registry_from,
    settings_option,
    terminal_width,
    without_empty,
)

if TYPE_CHECKING:
    from ovvol_bench.api.result import Result

PASSED_ON = ("protocol", "settings", "name", "on_error")


@click.command()
@click.argument("predictions", metavar="RUN|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--truth", metavar="DATASET", help="What a FILE is scored against; a RUN knows its own.")
@names_option(
    "--metrics",
    metavar="all|NAME,...",
    help="By default those of the run. all: every metric that fits what predictions and truth hold.",
)
@click.option("--name", metavar="NAME", help="Of the method that made a FILE; by default the file's.")
@click.option("--protocol", help="Conventions for all metrics, as in vid-devkit.")
@click.option("--input-format", metavar="NAME", help="Of a FILE, where it doesn't say. See docs/formats.md.")
@choice_option("--on-error", OnError, "What can't be scored: refuse it, or leave it out and count it.")
@click.option("--output", metavar="FILE.json", type=PATH, help="Write the result there.")
@click.option(
    "--pictures",
    metavar="FOLDER",
    type=PATH,
    help="Draw error causes, gains, confusion, curves, sizes and speeds there; adds the metrics for them.",
)
@settings_option
@format_option("text", "markdown", "json")
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, /, predictions: Path, style: str, **options: Any) -> None:
    """Score predictions against the truth of a dataset, without any model.

    RUN is a run folder: its result.json is written anew; metrics and protocols that are named are
    added to it. Where its dataset lies now can be set, as in -o dataset.path=ILSVRC2015.

    FILE is a file or folder of predictions of any program: this project's own form, COCO results,
    COCO-VID, YouTube-VIS results, the VID devkit's text or MOT text.
    """
    from ovvol_bench.api.evaluate import score

    how = {"form": options["input_format"], **{each: options[each] for each in PASSED_ON}}
    if options["pictures"]:
        from ovvol_bench.report.pictures import METRICS

        # Pictures need numbers that a run seldom has; they are computed beside those asked for.
        how["added"] = METRICS
    names = options["metrics"] or ()
    result = score(registry_from(context), predictions, options["truth"], names=names, **how)
    written = [result.save(options["output"])] if options["output"] else []
    if options["pictures"]:
        from ovvol_bench.report.pictures import write_pictures

        written += write_pictures(result.record, options["pictures"])
    for path in written:
        click.echo(f"written: {path}", err=True)
    if style == "json":
        echo_json(result.record.to_json())
    elif result.record.file:
        _show_file(result, style)
    else:
        click.echo(result.table(style=style, width=terminal_width()) + "\n")
        _show_numbers(result, style)
    for note in result.notes:
        click.echo(note, err=True)


def _show_numbers(result: Result, style: str) -> None:
    from ovvol_bench.results.frame import TELLING_SPAN
    from ovvol_bench.results.layout import is_share, number_text, with_unit

    rows = []
    for key, score in result.record.metrics.items():
        share = is_share(key, [score.value])
        value, (low, high) = number_text(score.value, share), score.tie_span or (0.0, 0.0)
        ties = f"{number_text(low, share)} to {number_text(high, share)}" if high - low > TELLING_SPAN else ""
        rows.append({"metric": with_unit(key, share), "value": value, "count": score.count, "ties": ties})
    echo_table(without_empty(rows, "ties"), style, expendable=("count",))


def _show_file(result: Result, style: str) -> None:
    _show_numbers(result, style)
    coverage = result.coverage
    if coverage.detections is None:
        click.echo(f"\n{coverage.done} of {coverage.clips} clips, {coverage.frames} frames")
    else:
        click.echo(
            f"\n{coverage.detections} detections in {coverage.frames_with_detections} of "
            f"{coverage.frames} frames, {coverage.entries} entries read"
        )
        if coverage.out_of_frame:
            click.echo(f"{coverage.out_of_frame} boxes reach out of their frame (dataset.out_of_frame)")
        if coverage.unscored:
            click.echo(f"{coverage.unscored} detections have no score (conf -1) and count with 1")
    if coverage.unread:
        click.echo(f"{len(coverage.unread)} frames of these clips have no prediction and are not scored")
    for reason, count in coverage.skipped.items():
        click.echo(f"skipped: {count} x {reason}")
