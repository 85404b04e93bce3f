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
    plugin_option,
    registry_from,
    settings_option,
)
from ovvol_bench.cli.table import split_names
from ovvol_bench.errors import SettingError

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry
    from ovvol_bench.runs.selection import Choice
    from ovvol_bench.runs.store import RunFolder


@click.command()
@click.argument("predictions", metavar="RUN|FILE", type=click.Path(exists=True, path_type=Path))
@click.option("--metrics", metavar="NAME,...", callback=split_names, help="By default those of the run.")
@click.option("--protocol", help="Conventions for all metrics, as in vid-devkit.")
@click.option("--dataset", metavar="NAME", help="Of a FILE's predictions; a RUN knows its own.")
@settings_option
@format_option("text", "markdown", "json")
@plugin_option
@click.pass_context
def command(context: click.Context, /, predictions: Path, style: str, **options: Any) -> None:
    """Score predictions against the truth of their dataset.

    RUN is a run folder: its result.json is written anew; metrics and protocols that are named are
    added to it. FILE is a predictions file or folder of any origin, in the form of docs/predictions.md.
    """
    from ovvol_bench.runs.store import RunFolder

    registry, folder = registry_from(context), RunFolder(predictions)
    if folder.spec_file.is_file():
        _eval_run(registry, folder, options, style)
    else:
        _eval_file(registry, predictions, options, style)


def _eval_run(registry: Registry, folder: RunFolder, options: Mapping[str, Any], style: str) -> None:
    from ovvol_bench.report.results_files import parse_result
    from ovvol_bench.report.tables import render
    from ovvol_bench.runs.rescore import rescore_run
    from ovvol_bench.runs.selection import Choice

    if options["dataset"] or "dataset" in options["settings"]:
        raise SettingError(f"{folder.path} is a run and knows its dataset; drop --dataset and -o dataset.*")
    chosen = None
    if options["metrics"] or options["protocol"] or options["settings"]:
        own = [Choice(metric.name, metric.options) for metric in folder.read_spec().metrics]
        chosen = choose_metrics(registry, own, options)
    result = rescore_run(folder, registry, chosen)
    if not folder.complete:
        click.echo("The run was cut off: these are the clips so far, and no result was written.", err=True)
    if style == "json":
        echo_json(result)
    else:
        click.echo(render([parse_result(result, str(folder.result_file))], None, style))


def _eval_file(registry: Registry, path: Path, options: Mapping[str, Any], style: str) -> None:
    from ovvol_bench.runs.files import without_nan
    from ovvol_bench.runs.presets import load_preset
    from ovvol_bench.runs.rescore import score_file
    from ovvol_bench.runs.selection import Choice

    if not options["dataset"]:
        raise SettingError(f"{path} is no run folder; say what its truth is with --dataset NAME")
    usual = [Choice(part.name, part.options) for part in load_preset("shapes").metrics]
    metrics = choose_metrics(registry, usual, options)
    dataset = Choice(options["dataset"], options["settings"].get("dataset", {}))
    scored = without_nan(score_file(path, dataset, registry, metrics))
    if style == "json":
        echo_json(scored)
        return
    echo_table(
        [{"metric": k, "value": v["value"], "count": v["count"]} for k, v in scored["metrics"].items()]
    )
    coverage = scored["coverage"]
    click.echo(f"\n{coverage['done']} of {coverage['clips']} clips, {coverage['frames']} frames")


def choose_metrics(registry: Registry, usual: Sequence[Choice], options: Mapping[str, Any]) -> list[Choice]:
    """The metrics to compute, under the protocol and with the settings that were typed.

    Args:
        registry: knows which metric has which setting.
        usual: what is computed, and how, unless the options say otherwise.
        options: ``metrics``, ``protocol`` and ``settings`` of the command line.

    Raises:
        UnknownNameError, SettingError: if a metric isn't installed or none has a setting.
    """
    from ovvol_bench.runs.selection import Choice, with_settings

    typed: Settings = options["settings"]
    foreign = sorted(typed.keys() - {"metric", "dataset"})
    if foreign:
        raise SettingError(
            f"-o {foreign[0]}.*: scoring runs no {foreign[0]}; only metric and dataset settings count"
        )
    names = options["metrics"] or ()
    chosen = [choice for choice in usual if not names or choice.name in names]
    chosen += [Choice(name) for name in names if name not in {choice.name for choice in usual}]
    protocol = {"protocol": options["protocol"]} if options["protocol"] else {}
    return with_settings(registry, "metric", chosen, protocol | typed.get("metric", {}))
