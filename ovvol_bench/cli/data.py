"""``ovvol-bench data``: make and look into datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from ovvol_bench.cli.common import echo_table

Split = Literal["train", "val", "test"]


@click.group("data")
def command() -> None:
    """Make and look into datasets."""


@command.group()
def make() -> None:
    """Make a dataset on disk."""


@make.command()
@click.argument("out", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--split",
    type=click.Choice(["train", "val", "test"]),
    default="test",
    show_default=True,
    help="Which world.",
)
@click.option("--videos", type=click.IntRange(1), default=60, show_default=True, help="Videos of 24 frames.")
@click.option("--seed", type=int, default=0, show_default=True, help="Another seed is another world.")
def shapes(out: Path, split: Split, videos: int, seed: int) -> None:
    """Render the shapes dataset into OUT, in the ILSVRC-VID layout, with mp4s and masks."""
    from ovvol_bench.data.progress import with_progress
    from ovvol_bench.data.shapes.export import write_split

    written = write_split(out, split, videos, seed)
    for _ in with_progress(written, videos, "rendering", lambda _: 1):
        pass
    click.echo(f"{videos} videos of split {split} are in {out}")


@command.command()
@click.argument("path", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--split", default="val", show_default=True, help="Folder in Data/VID.")
@click.option(
    "--list", "list_file", type=click.Path(path_type=Path), help="Text file, one video or frame a line."
)
@click.option(
    "--vocabulary", default="imagenet-vid", show_default=True, help="Built-in name, or a .yaml file."
)
@click.option("--cache", help="Folder for parsed annotations; the user's cache folder by default.")
def inspect(path: Path, split: str, list_file: Path | None, vocabulary: str, cache: str | None) -> None:
    """Print what an ILSVRC-VID tree at PATH contains, and check that it is complete."""
    from ovvol_bench.data.cache import cache_folder
    from ovvol_bench.data.vid_index import describe, find_frames, load_index
    from ovvol_bench.data.vid_tree import find_tree, read_videos
    from ovvol_bench.naming.vocabulary import load_vocabulary

    tree, words = find_tree(path, split), load_vocabulary(vocabulary)
    listed = read_videos(tree, list_file)
    index = load_index(tree, find_frames(tree, listed.videos), words, cache_folder(cache))
    source = "none, all folders are read" if listed.source is None else f"{listed.source} ({listed.layout})"
    click.echo(f"split {split}, list: {source}")
    echo_table([{"what": what, "count": count} for what, count in describe(index, words).items()])
