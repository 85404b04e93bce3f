"""``ovvol-bench data``: make, prepare, check and look into datasets."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from ovvol_bench.cli.common import (
    PATH,
    Settings,
    check_kinds,
    choice_option,
    echo_json,
    echo_table,
    format_option,
    plugin_option,
    registry_from,
    settings_option,
)
from ovvol_bench.errors import SettingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ovvol_bench.data.base import Dataset
    from ovvol_bench.data.imagenet_vid.check import Checked
    from ovvol_bench.data.imagenet_vid.prepare import Outcome

FEW = 5  # problems that are printed; files hold them all
VID = "imagenet-vid"
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group("data")
def command() -> None:
    """Make, prepare, check and look into datasets."""


@command.group()
def make() -> None:
    """Make a dataset on disk."""


@make.command()
@click.argument("out", type=NEW_FOLDER)
@choice_option("--split", ("train", "val", "test"), "Which world.", default="test")
@click.option("--videos", type=click.IntRange(1), default=60, help="Videos of 24 frames.")
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed is another world.")
def shapes(out: Path, split: Literal["train", "val", "test"], videos: int, seed: int) -> None:
    """Render the shapes dataset into OUT, in the ILSVRC-VID layout, with mp4s and masks."""
    from ovvol_bench.data.shapes.storage import write_split
    from ovvol_bench.progress import with_progress

    written = write_split(out, split, videos, seed)
    for _ in with_progress(written, videos, "rendering", lambda _: 1):
        pass
    click.echo(f"{videos} videos of split {split} are in {out}")


@command.group()
def prepare() -> None:
    """Turn a dataset into what training reads."""


@prepare.command("imagenet-vid")
@click.argument("root", type=FOLDER)
@click.argument("out", type=NEW_FOLDER)
@click.option("--split", default="train", help="Folder in Data/VID.")
@click.option("--short-side", default=224, help="Of the videos, pixels.")
@click.option("--multiple", default=16, help="What both sides are multiples of, pixels.")
@click.option("--crf", default=23, help="x264's rate factor, 1 (best) to 51 (smallest).")
@click.option("--gop", default=16, help="Most frames from one key frame to the next.")
@click.option("--fps", default=25, help="Frames a second that the files state.")
@click.option("--workers", type=click.IntRange(1), help="Processes; as many as processors by default.")
@choice_option("--overwrite", ("missing", "always"), "Encode what is missing, or everything again.")
@click.option("--strict/--no-strict", help="Exit with 2 if any video or frame could not be prepared.")
def prepare_imagenet_vid(
    root: Path, out: Path, split: str, workers: int | None, overwrite: str, strict: bool, **encoding: int
) -> None:
    """Encode the frames of ROOT's split as small mp4s in OUT, with a list of them.

    A command that was cut off continues when it is given again. Videos that can't be prepared are
    left out of the list, and frames that can't be read show the one before; OUT/report.json names both.
    """
    from ovvol_bench.data.imagenet_vid.prepare import Encoding, prepare_videos
    from ovvol_bench.data.imagenet_vid.tree import find_tree, video_folders
    from ovvol_bench.progress import with_progress

    tree = find_tree(root, split)
    names = video_folders(tree, with_empty=True)
    processes = workers or os.cpu_count() or 1
    steps = prepare_videos(
        tree, names, out, Encoding(**encoding), workers=processes, redo=overwrite == "always"
    )
    try:
        outcomes = list(with_progress(steps, len(names), "preparing", lambda _: 1))
    except KeyboardInterrupt:
        click.echo("Finished videos are kept: the same command goes on from here.", err=True)
        raise
    _report_preparation(outcomes, out, strict)


def _report_preparation(outcomes: Sequence[Outcome], out: Path, strict: bool) -> None:
    problems = [outcome.problem for outcome in outcomes if outcome.problem is not None]
    repeated = [text for outcome in outcomes for text in outcome.repeated.values()]
    kept, frames = sum(outcome.kept for outcome in outcomes), sum(outcome.frames for outcome in outcomes)
    done = len(outcomes) - len(problems)
    click.echo(f"{done} videos with {frames} frames are in {out} ({kept} were there already)")
    for found, what in (
        (problems, "videos could not be prepared"),
        (repeated, f"of {frames} frames could not be read and show the one before"),
    ):
        if found:
            click.echo(f"{len(found)} {what}, see {out / 'report.json'}:", err=True)
        for text in found[:FEW]:
            click.echo(f"  {text}", err=True)
    if (problems or repeated) and strict:
        raise click.exceptions.Exit(2)


@command.group()
def convert() -> None:
    """Turn what other programs store into what datasets here read."""


@convert.command()
@click.argument("source")
@click.argument("out", type=NEW_FOLDER)
@click.option("--split", default="validation", help="train, validation or test.")
@click.option("--videos", type=click.IntRange(1), help="Only the first so many.")
def movi(source: str, out: Path, split: str, videos: int | None) -> None:
    """Write a split of MOVi into OUT/SPLIT, a folder of PNG files a video.

    SOURCE is the folder of one version as tensorflow-datasets stores it, local or not, such as
    gs://kubric-public/tfds/movi_e/256x256/1.0.0. Videos that are there are kept. Needs
    tensorflow-datasets; reading what it writes does not.
    """
    from itertools import islice

    from ovvol_bench.data.movi import read_examples, write_examples
    from ovvol_bench.progress import with_progress

    count, examples = read_examples(source, split)
    total = min(count, videos or count)
    written = write_examples(islice(examples, total), out / split)
    done = sum(1 for _ in with_progress(written, total, "converting", lambda _: 1))
    click.echo(f"{done} videos are in {out / split}")


@command.command()
@click.argument("root", type=FOLDER)
@click.option("--split", default="val", help="Folder in Data/VID, or name of the list.")
@click.option("--list", "list_file", type=PATH, help="Check that this list's lines exist.")
@click.option("--vocabulary", default="imagenet-vid", help="Built-in name, or a .yaml file.")
@click.option("--workers", type=click.IntRange(1), help="Processes; as many as processors by default.")
@click.option("--content", is_flag=True, help="Decode every frame, and print a hash of all bytes to compare.")
@format_option("text", "json")
def check(
    root: Path, split: str, list_file: Path | None, vocabulary: str, style: str, **how: int | bool | None
) -> None:
    """Look at every file of a split at ROOT, and exit with 2 if anything is wrong.

    ROOT is an ILSVRC-VID tree, or a folder that 'data prepare' wrote. Frames, annotations and lists
    are compared with each other, and counts with the official ones.
    """
    from ovvol_bench.data.imagenet_vid.check import OFFICIAL, check_data
    from ovvol_bench.naming.vocabulary import load_vocabulary

    checked = check_data(
        root,
        split,
        load_vocabulary(vocabulary),
        list_file=list_file,
        workers=how["workers"] or os.cpu_count() or 1,
        content=bool(how["content"]),
    )
    official, problems = OFFICIAL.get(split, {}), checked.findings.told()
    if style == "json":
        fields = ("kind", "count", "examples")
        about = {
            "split": split,
            "layout": checked.layout,
            "list": None if checked.source is None else str(checked.source),
            "counts": dict(checked.findings.counts),
            "official": dict(official),
            "problems": [dict(zip(fields, each, strict=True)) for each in problems],
            "content": checked.content,
        }
        echo_json(about)
    else:
        _echo_check(checked, split, official)
    if problems:
        raise click.exceptions.Exit(2)


def _echo_check(checked: Checked, split: str, official: Mapping[str, int]) -> None:
    from ovvol_bench.data.imagenet_vid.check import EXAMPLES

    click.echo(f"split {split}, {checked.layout}, list: {checked.source or 'none'}")
    shown = {what: f"{count:,}" for what, count in official.items()}
    counts = checked.findings.counts.items()
    echo_table([{"what": what, "count": f"{count:,}", "official": shown.get(what)} for what, count in counts])
    if checked.content is not None:
        click.echo(f"\nhash of the content: {checked.content}")
    for kind, count, examples in checked.findings.told():
        click.echo(f"\n{count:,} {kind}:")
        for example in examples[:EXAMPLES]:
            click.echo(f"  {example}")
        if count > EXAMPLES:
            click.echo("  ... all with --format json" if len(examples) == count else "  ...")
    if not checked.findings.told():
        click.echo("\nno problems found")


@command.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@click.option("--dataset", default=VID, help="Name of the dataset that is at PATH.")
@click.option("--split", help="Part of the dataset; its own default, or val for imagenet-vid.")
@click.option("--list", "list_file", type=PATH, help="Text file, one video or frame a line.")
@click.option("--vocabulary", help="Built-in name, or a .yaml file; the dataset's own by default.")
@click.option("--cache", help="Folder for parsed annotations; the user's cache folder by default.")
@plugin_option
@settings_option
@click.pass_context
def inspect(
    context: click.Context, /, path: Path, dataset: str, settings: Settings, **given: Path | str | None
) -> None:
    """Print what a dataset at PATH contains, as evaluation reads it: a tree, a JSON file, a folder.

    It ends at the first mistake; 'data check' looks for them all in an ILSVRC-VID tree.
    """
    from ovvol_bench.data.imagenet_vid.dataset import ImageNetVid
    from ovvol_bench.data.indexed import IndexedVideos
    from ovvol_bench.data.truth_index import describe

    options = {name.removesuffix("_file"): value for name, value in given.items() if value is not None}
    check_kinds(settings, "dataset")
    set_twice = sorted({"path", *options} & settings.get("dataset", {}).keys())
    if set_twice:
        raise SettingError(f"-o dataset.{set_twice[0]}: given as PATH or an option as well. Give it once.")
    options |= {"path": path, **settings.get("dataset", {})}
    built: Dataset = registry_from(context).build("dataset", dataset, options)
    if not isinstance(built, IndexedVideos):
        raise SettingError(f"dataset '{dataset}' has no index to look into: its clips are read one by one.")
    if isinstance(built, ImageNetVid):
        listed = built.listed
        where = f"{listed.source} ({listed.layout})" if listed.source else "none, all folders are read"
        click.echo(f"split {built.split}, list: {where}")
    words, truth = built.vocabulary, "" if built.annotated else ", without truth"
    click.echo(f"dataset {dataset}, vocabulary '{words.name}' of {len(words.classes)} classes{truth}")
    rows = {**describe(built.index, words), "clips": len(built)}
    rows |= {f"left out: {reason}": count for reason, count in built.skipped.items()}
    echo_table([{"what": what, "count": count} for what, count in rows.items()])


@command.command()
@click.argument("name", metavar="DATASET")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), help="JSON file to write.")
@settings_option
@plugin_option
@click.pass_context
def frequencies(context: click.Context, name: str, output: Path | None, settings: Settings) -> None:
    """Count the true boxes of DATASET by class, as in -o dataset.split=train; labeler 'prior' reads them."""
    from ovvol_bench.data.base import class_frequencies
    from ovvol_bench.files import write_text

    check_kinds(settings, "dataset")
    counts = class_frequencies(registry_from(context).build("dataset", name, settings.get("dataset", {})))
    if output is None:
        echo_json(counts)
    else:
        write_text(output, json.dumps(counts, indent=2, ensure_ascii=False) + "\n")
        click.echo(f"{sum(counts.values()):,} boxes of {len(counts)} classes: {output}")
