"""``ovvol-bench new KIND NAME``: a package to start a plugin from."""

from __future__ import annotations

from pathlib import Path

import click

from ovvol_bench.registry import KINDS


@click.command("new")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), help="Its folder; by default NAME, with dashes."
)
@click.option("--trainable", is_flag=True, help="Of a grouper: with a recipe for its training.")
def command(kind: str, name: str, folder: Path | None, trainable: bool) -> None:
    """Write a small package with one component, which installs and passes its tests."""
    from ovvol_bench.scaffold import write_package

    folder = folder or Path(name.replace("_", "-"))
    for path in write_package(kind, name, folder, trainable):
        click.echo(path)
    click.echo(
        f"\nGo on with:\n  pip install -e {folder}\n  ovvol-bench check {kind} {name}\n  pytest {folder}"
    )
