"""``ovvol-bench completion``: the shell completes commands, options and their values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click

SHELLS = ("bash", "zsh", "fish")
PROGRAM = "ovvol-bench"
Complete = Callable[[click.Context, click.Parameter, str], list[str]]


@click.command("completion")
@click.argument("shell", type=click.Choice(SHELLS), required=False)
@click.option("--install", is_flag=True, help="Write the script to where the shell looks for it.")
def command(shell: str | None, install: bool) -> None:
    """Print the completion script of a shell, by default the one in use, or install it."""
    from click.shell_completion import get_completion_class

    from ovvol_bench.cli import main
    from ovvol_bench.errors import SettingError
    from ovvol_bench.files import write_text

    shell = shell or Path(os.environ.get("SHELL", "")).name
    kind = get_completion_class(shell)
    if shell not in SHELLS or kind is None:
        raise SettingError(f"can't complete in the shell '{shell}'; name one of {', '.join(SHELLS)}")
    script = kind(main, {}, PROGRAM, "_OVVOL_BENCH_COMPLETE").source()
    if not install:
        click.echo(script)
        return
    home = Path.home()
    places = {
        "bash": home / ".local/share/bash-completion/completions" / PROGRAM,
        "zsh": home / ".zfunc" / f"_{PROGRAM}",
        "fish": home / ".config/fish/completions" / f"{PROGRAM}.fish",
    }
    write_text(places[shell], script)
    click.echo(f"written: {places[shell]}; new shells complete {PROGRAM}")
    if shell == "zsh":
        click.echo("if they don't, add to ~/.zshrc: fpath+=~/.zfunc; autoload -Uz compinit && compinit")


def complete_names(kind: str) -> Complete:
    """Complete the last of several names of components between commas."""

    def complete(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
        from ovvol_bench.cli.common import registry_from

        before, comma, last = typed.rpartition(",")
        return [before + comma + name for name in _starting(last, registry_from(context).names(kind))]

    return complete


def complete_presets(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Complete the name of a preset."""
    from ovvol_bench.runs.selection import preset_names

    return _starting(typed, preset_names())


def complete_component(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Complete NAME after KIND, as in ``show KIND NAME``."""
    if context.params.get("kind") == "preset":
        return complete_presets(context, parameter, typed)
    return complete_names(str(context.params.get("kind")))(context, parameter, typed)


def complete_setting(context: click.Context, parameter: click.Parameter, typed: str) -> list[str]:
    """Complete KIND.SETTING= and KIND:NAME.SETTING= for the components named before, or the preset's."""
    from ovvol_bench.api.run import SETTING_KINDS
    from ovvol_bench.cli.common import registry_from
    from ovvol_bench.runs.selection import load_preset

    named, dot, _ = typed.rpartition(".")
    kind, colon, name = (named if dot else typed).partition(":")
    kind = kind if colon else kind.partition(".")[0]
    if not (dot or colon) or kind not in SETTING_KINDS or kind == "naming":
        return _starting(typed, [f"{each}." for each in SETTING_KINDS])
    registry = registry_from(context)
    preset = load_preset(str(context.params.get("preset") or "shapes"))
    usual = [part.name for part in preset.metrics] if kind == "metric" else [getattr(preset, kind).name]
    names = context.params.get(kind) or context.params.get("truth") or usual
    names = [names] if isinstance(names, str) else names
    if colon and name not in names:
        return _starting(typed, [f"{kind}:{each}." for each in names])
    names = [name] if colon else names
    settings = {each.name for one in names for each in registry.settings(kind, one)}
    return _starting(typed, [f"{named}.{setting}=" for setting in sorted(settings)])


def _starting(typed: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(typed)]
