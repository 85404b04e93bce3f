"""``ovvol-bench new KIND NAME``: a package to start a plugin from, or a further component for one."""

from __future__ import annotations

from pathlib import Path

import click

from ovvol_bench.errors import SettingError
from ovvol_bench.registry import KINDS


@click.command("new")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), help="Its folder; by default NAME, with dashes."
)
@click.option(
    "--into",
    "package",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Add the component to the plugin's package in this folder, with its test and entry.",
)
@click.option("--trainable", is_flag=True, help="Of a grouper: with a recipe for its training.")
def command(kind: str, name: str, folder: Path | None, package: Path | None, trainable: bool) -> None:
    """Write a small package with one component, which installs and passes its tests."""
    from ovvol_bench.scaffold import add_component, write_package

    if folder and package:
        raise SettingError("--to makes a package and --into adds to one; drop one of the two")
    folder = folder or Path(name.replace("_", "-"))
    files = (add_component if package else write_package)(kind, name, package or folder, trainable)
    for path in files:
        click.echo(path)
    click.echo(
        f"\nGo on with:\n  pip install -e {package or folder}\n  ovvol-bench check {kind} {name}\n"
        f"  pytest {package or folder}"
    )
