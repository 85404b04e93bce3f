"""``ovvol-bench eval``: score stored predictions again, without any model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovvol_bench.cli.common import (
    Settings,
    echo_json,
    echo_table,
    format_option,
    names_option,
    plugin_option,
    quiet_option,
    registry_from,
    settings_option,
    terminal_width,
)
from ovvol_bench.errors import SettingError

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry
    from ovvol_bench.runs.selection import Choice


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
@click.option(
    "--on-error",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="What can't be scored: refuse it, or leave it out and count it.",
)
@click.option(
    "--output", metavar="FILE.json", type=click.Path(path_type=Path), help="Write the result there."
)
@click.option(
    "--pictures",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
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
    from ovvol_bench.runs.store import RunFolder

    registry, folder = registry_from(context), RunFolder(predictions)
    is_run = folder.spec_file.is_file()
    score = _score_run if is_run else _score_file
    result, left_out = score(registry, predictions, options)
    write_outputs(result, options["output"], options["pictures"])
    if style == "json":
        echo_json(result)
    else:
        (_show_run if is_run else _show_file)(result, style)
    for name, reason in left_out.items():
        click.echo(f"left out: {reason if name in reason else f'{name}: {reason}'}", err=True)


def write_outputs(result: Mapping[str, Any], output: Path | None, pictures: Path | None) -> None:
    """Write what came of an evaluation, and draw it.

    Raises:
        SettingError: if a file can't be written.
        DataError: if there is nothing to draw.
    """
    written = []
    if output:
        from ovvol_bench.files import write_json

        write_json(output, result)
        written.append(output)
    if pictures:
        from ovvol_bench.report.pictures import write_pictures

        written += write_pictures(result, pictures)
    for path in written:
        click.echo(f"written: {path}", err=True)


def _score_run(
    registry: Registry, path: Path, options: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    from ovvol_bench.runs.fitting import Wanted
    from ovvol_bench.runs.rescore import rescore_run
    from ovvol_bench.runs.selection import Choice
    from ovvol_bench.runs.store import RunFolder

    if options["truth"]:
        raise SettingError(f"{path} is a run and knows its dataset; drop --truth")
    if options["input_format"]:
        raise SettingError(f"{path} is a run, whose predictions have one format; drop --input-format")
    if options["name"]:
        raise SettingError(f"{path} is a run, named by its parts; drop --name")
    folder, wanted = RunFolder(path), None
    places = options["settings"].get("dataset")
    others = options["settings"].keys() - {"dataset"}
    if others or any(options[name] for name in ("metrics", "protocol", "pictures")):
        own = [Choice(metric.name, metric.options) for metric in folder.read_spec().metrics]
        wanted = Wanted(tuple(choose_metrics(registry, own, options)), _is_lenient(options))
    result, left_out = rescore_run(folder, registry, wanted, places)
    if not folder.complete:
        click.echo("The run was cut off: these are the clips so far, and no result was written.", err=True)
    return result, left_out


def _score_file(
    registry: Registry, path: Path, options: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, str]]:
    from ovvol_bench.files import json_ready
    from ovvol_bench.runs.fitting import Wanted
    from ovvol_bench.runs.presets import load_preset
    from ovvol_bench.runs.score_files import Source, score_file
    from ovvol_bench.runs.selection import Choice

    if not options["truth"]:
        raise SettingError(f"{path} is no run folder; say what its truth is with --truth DATASET")
    usual = [Choice(part.name, part.options) for part in load_preset("shapes").metrics]
    wanted = Wanted(tuple(choose_metrics(registry, usual, options)), _is_lenient(options))
    truth = Choice(options["truth"], options["settings"].get("dataset", {}))
    source = Source(path, options["input_format"], options["on_error"])
    result = json_ready(score_file(source, truth, registry, wanted, options["name"]))
    return result, result["left_out"]


def _is_lenient(options: Mapping[str, Any]) -> bool:
    """Whether metrics that don't fit are left out: unless they were named one by one."""
    return options["metrics"] in (None, ["all"]) or options["on_error"] == "skip"


def _show_run(result: Mapping[str, Any], style: str) -> None:
    from ovvol_bench.report.results_files import parse_result
    from ovvol_bench.report.tables import render

    checked = [parse_result(result, "result.json")]
    click.echo(render(checked, None, style, spans=True, width=terminal_width()) + "\n")
    _show_numbers(result, style)


def _show_numbers(result: Mapping[str, Any], style: str) -> None:
    from ovvol_bench.report.columns import is_share, number_text, with_unit
    from ovvol_bench.report.rows import TELLING_SPAN, tie_span

    rows = []
    for key, score in result["metrics"].items():
        share = is_share(key, [score["value"]])
        value, (low, high) = number_text(score["value"], share), tie_span(score) or (0.0, 0.0)
        ties = f"{number_text(low, share)} to {number_text(high, share)}" if high - low > TELLING_SPAN else ""
        rows.append({"metric": with_unit(key, share), "value": value, "count": score["count"], "ties": ties})
    if not any(row["ties"] for row in rows):
        rows = [{name: cell for name, cell in row.items() if name != "ties"} for row in rows]
    echo_table(rows, style, expendable=("count",))


def _show_file(result: Mapping[str, Any], style: str) -> None:
    _show_numbers(result, style)
    coverage = result["coverage"]
    if "detections" not in coverage:
        click.echo(f"\n{coverage['done']} of {coverage['clips']} clips, {coverage['frames']} frames")
    else:
        click.echo(
            f"\n{coverage['detections']} detections in {coverage['frames_with_detections']} of "
            f"{coverage['frames']} frames, {coverage['entries']} entries read"
        )
        if coverage["out_of_frame"]:
            click.echo(f"{coverage['out_of_frame']} boxes reach out of their frame (dataset.out_of_frame)")
        if coverage["unscored"]:
            click.echo(f"{coverage['unscored']} detections have no score (conf -1) and count with 1")
    for reason, count in coverage.get("skipped", {}).items():
        click.echo(f"skipped: {count} x {reason}")


def choose_metrics(registry: Registry, usual: Sequence[Choice], options: Mapping[str, Any]) -> list[Choice]:
    """The metrics to compute, under the protocol and with the settings that were typed.

    Args:
        registry: knows which metric has which setting.
        usual: what is computed, and how, unless the options say otherwise.
        options: ``metrics``, ``protocol``, ``settings`` and ``pictures`` of the command line.

    Raises:
        UnknownNameError, SettingError: if a metric isn't installed or none has a setting.
    """
    from ovvol_bench.runs.selection import Choice, pick_metrics, with_settings

    typed: Settings = options["settings"]
    foreign = sorted(typed.keys() - {"metric", "dataset"})
    if foreign:
        raise SettingError(
            f"-o {foreign[0]}.*: scoring runs no {foreign[0]}; only metric and dataset settings count"
        )
    names = options["metrics"] or ()
    if list(names) == ["all"]:
        names = list(dict.fromkeys([*(choice.name for choice in usual), *registry.names("metric")]))
    chosen = pick_metrics(usual, names)
    if options["pictures"]:
        from ovvol_bench.report.pictures import METRICS

        chosen += [Choice(name) for name in METRICS if name not in {choice.name for choice in chosen}]
    protocol = {"protocol": options["protocol"]} if options["protocol"] else {}
    return with_settings(registry, "metric", chosen, protocol | typed.get("metric", {}))
