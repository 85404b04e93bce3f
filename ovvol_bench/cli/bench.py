"""``ovvol-bench bench``: how fast combinations are, stage by stage."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ovvol_bench.api.run import Device, make_selection
from ovvol_bench.cli.common import (
    PARTS,
    PATH,
    Settings,
    choice_option,
    echo_json,
    format_option,
    limit_option,
    numbers_option,
    part_options,
    plugin_files,
    plugin_option,
    preset_option,
    quiet_option,
    registry_from,
    settings_option,
    terminal_width,
    typed_settings,
)
from ovvol_bench.errors import SettingError
from ovvol_bench.fidelity import Fidelity, Precision
from ovvol_bench.registry import Pretrained

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry
    from ovvol_bench.runs.selection import Selection
    from ovvol_bench.throughput.record import Throughput
    from ovvol_bench.throughput.request import Request

PASSED_ON = ("batch_sizes", "repeats", "warmup", "device", "threads", "workers", "plugins", "random_weights")
OF_SHOW = {"show", "style", "picture", "metric", "results"}
"""Options that count beside ``--show``."""


def read_sizes(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[tuple[int, int], ...] | None:
    """Read HEIGHTxWIDTH between commas; None if the option was not given."""
    if text is None:
        return None
    if not re.fullmatch(r"\d+x\d+(,\d+x\d+)*", text):
        raise click.BadParameter(
            f"'{text}' is no list of sizes; expected HEIGHTxWIDTH, as in 224x224,224x400"
        )
    sides = [size.split("x") for size in text.split(",")]
    return tuple((int(height), int(width)) for height, width in sides)


@click.command()
@preset_option("A preset by name, or a YAML file.")
@part_options
@settings_option
@click.option(
    "--weights-from",
    type=PATH,
    metavar="FOLDER",
    help="Take the official checkpoints from a folder, as in run.",
)
@click.option(
    "--random-weights/--no-random-weights",
    default=False,
    help="Draw all weights: speed doesn't depend on them, and the result says so.",
)
@click.option(
    "--sizes",
    metavar="HxW,...",
    callback=read_sizes,
    help="Sizes that frames are resized to; by default the dataset's own.",
)
@numbers_option(
    "--batch-sizes", "batch sizes", "1,4,16", metavar="CLIPS,...", default=["1,4"], help="Clips at a time."
)
@choice_option("--fidelity", (*get_args(Fidelity), "both"), "both: how far fast is from reference, too.")
@choice_option("--precision", Precision, "auto: bfloat16 for fast where the hardware has it.")
@choice_option("--device", Device)
@click.option("--repeats", type=int, default=5, metavar="BATCHES", help="Batches that are measured.")
@click.option("--warmup", type=int, default=1, metavar="BATCHES", help="Batches before, that are not.")
@click.option("--threads", type=int, metavar="N", help="Threads of PyTorch; by default its own choice.")
@click.option("--workers", type=int, metavar="N", help="Threads that read frames ahead, as in run.")
@limit_option("Compare fidelities on the first so many clips.")
@click.option(
    "--output",
    type=PATH,
    metavar="FILE",
    help="Of the result; by default results/throughput/PRESET-COMBINATION-MACHINE.json.",
)
@click.option("--picture", type=PATH, metavar="FILE", help="Draw speed against accuracy (PNG).")
@click.option("--metric", default="ap50", help="Of the picture, as ap50@vid-reference.")
@click.option("--results", type=PATH, default=Path("results"), help="Where the picture's accuracies are.")
@click.option(
    "--show",
    type=PATH,
    multiple=True,
    metavar="PATH",
    help="Measure nothing: print stored files, or folders of them (may be repeated).",
)
@format_option("text", "markdown", "latex", "html", "json")
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, /, style: str, **options: Any) -> None:
    """Measure speed, memory and arithmetic of combinations of components.

    What is timed is what run does, in a fresh process for every combination, size, batch size and fidelity.
    Exit code 1 if some of them failed.
    """
    accuracies = []
    if options["picture"]:  # checked before anything is measured
        from ovvol_bench.report.speed import metric_key, write_speed_chart
        from ovvol_bench.results.folder import read_results

        accuracies = list(read_results([options["results"]])[0].values())
        metric_key(accuracies, options["metric"])
    if options["show"]:
        from ovvol_bench.throughput.record import load_throughput

        _check_shown(context)
        found = load_throughput(options["show"])
    else:
        found = [_measure(context, options)]
    if style == "json":
        contents = [each.to_json() for each in found]
        echo_json(contents if options["show"] else contents[0])
    else:
        from ovvol_bench.report.speed import render_throughput

        click.echo(render_throughput(found, style, width=terminal_width()))
    if options["picture"]:
        write_speed_chart(found, accuracies, options["metric"], options["picture"])
    if not options["show"] and found[0].failures:
        context.exit(1)


def _check_shown(context: click.Context) -> None:
    """Refuse options about measuring beside ``--show``."""
    given = click.core.ParameterSource.COMMANDLINE
    for parameter in context.command.params:
        name = parameter.name or ""
        if name not in OF_SHOW and context.get_parameter_source(name) == given:
            raise SettingError(f"--show measures nothing; drop {parameter.opts[-1]}")


def _measure(context: click.Context, options: dict[str, Any]) -> Throughput:
    from ovvol_bench.files import ensure_writable, write_json
    from ovvol_bench.progress import progress_bars
    from ovvol_bench.throughput.record import FOLDER, default_name, parse_throughput
    from ovvol_bench.throughput.session import bench

    registry = registry_from(context)
    request = _request(registry, options | {"plugins": plugin_files(context)})
    output = options["output"]
    ensure_writable(output.parent if output else Path("results", FOLDER))
    with progress_bars("steps") as progress:
        for result in bench(request, registry, progress):  # what is measured is kept, whatever comes
            path = output or Path("results", FOLDER, default_name(result))
            write_json(path, result)
    click.echo(f"wrote {path}", err=True)
    return parse_throughput(result, str(path))


def _request(registry: Registry, options: dict[str, Any]) -> Request:
    from ovvol_bench.throughput.request import (
        FIDELITIES,
        STAND_IN,
        STAND_IN_SIZES,
        Request,
        with_frames,
        with_random_weights,
    )

    settings = typed_settings(options)
    typed = {kind: options[kind] for kind in PARTS if options[kind]}
    fidelities = FIDELITIES[options["fidelity"]]
    asked = {name: options[name] for name in ("preset", "precision", "limit")}
    chosen = make_selection(registry, typed, settings, fidelity=fidelities[-1], **asked)
    # Seeds cost the same: one run stands for all.
    chosen = replace(chosen, seeds=chosen.seeds[:1])
    framed = with_frames(chosen, registry)
    if framed is not chosen:
        name = chosen.datasets[0].name
        click.echo(f"dataset '{name}' is not set up; the frames are those of {STAND_IN}, resized", err=True)
    own = STAND_IN_SIZES if framed is not chosen else (None,)
    if options["random_weights"]:
        _check_drawn(registry, chosen, settings)
        framed = with_random_weights(framed, registry)
    return Request(
        framed,
        fidelities,
        options["sizes"] or own,
        preset=Path(options["preset"]).stem,
        **{name: options[name] for name in PASSED_ON},
    )


def _check_drawn(registry: Registry, chosen: Selection, settings: Settings) -> None:
    """Refuse weights beside ``--random-weights``."""
    for kind in ("encoder", "grouper", "labeler"):
        typed = settings.get(kind, {})
        for choice in getattr(chosen, f"{kind}s"):
            for each in registry.settings(kind, choice.name):
                given = {each.name, f"{choice.name}.{each.name}"} & typed.keys()
                if isinstance(each.role, Pretrained) and given:
                    raise SettingError(
                        f"--random-weights draws all weights; drop {kind}.{each.name}={typed[given.pop()]}"
                    )
