"""``ovvol-bench train KIND NAME``: train one component by one of its recipes."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ovvol_bench.cli.common import parse_settings, plugin_option, preset_option, quiet_option, registry_from
from ovvol_bench.errors import OutputError
from ovvol_bench.files import in_utf8
from ovvol_bench.locks import claimed
from ovvol_bench.registry import TRAINABLE

if TYPE_CHECKING:
    from ovvol_bench.registry import Registry
    from ovvol_bench.training.loop import Conduct, Outcome
    from ovvol_bench.training.plan import TrainingPlan

SETTING_KINDS = (*TRAINABLE, "dataset", "validation", "recipe")


@click.command("train")
@click.argument("kind", type=click.Choice(TRAINABLE))
@click.argument("name")
@click.option("--recipe", metavar="NAME", help="Which of the component's recipes; by default its first.")
@preset_option("A preset by name, or a YAML file.")
@click.option("--encoder", metavar="NAME", help="For groupers: the frozen encoder; by default the preset's.")
@click.option("--dataset", metavar="NAME", help="What to learn from; by default the preset's.")
@click.option("--validation", metavar="NAME", help="A dataset to measure on; by default the preset's.")
@click.option(
    "-o",
    "--option",
    "settings",
    multiple=True,
    metavar="KIND.SETTING=VALUE",
    callback=lambda context, parameter, texts: parse_settings(texts, SETTING_KINDS),
    help="Set a setting of a part or of the recipe, as in -o recipe.epochs=10 (may be repeated).",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Log, checkpoints and weights of this training; by default runs/train/RECIPE/ID.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--steps", type=click.IntRange(min=1), help="Stop after so many; the schedule stays as it is.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
    default="auto",
    show_default=True,
    help="Of forward and backward pass; auto: the preset's, or bfloat16 where the hardware has it.",
)
@click.option(
    "--micro-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Examples a process computes at a time; gradients add up to the recipe's batch size.",
)
@click.option(
    "--deepspeed", metavar="STAGE|FILE", help="zero1, zero2, zero3, or DeepSpeed's settings as JSON."
)
@click.option(
    "--workers",
    type=click.IntRange(min=0),
    metavar="N",
    help="Processes that read examples ahead; by default half of the processors, up to 8. 0: none.",
)
@click.option(
    "--keep", type=click.IntRange(min=1), default=2, show_default=True, help="Checkpoints that stay."
)
@click.option("--save-every", type=click.IntRange(min=1), default=500, show_default=True, metavar="STEPS")
@click.option("--log-every", type=click.IntRange(min=1), default=10, show_default=True, metavar="STEPS")
@click.option(
    "--measure-every",
    type=click.IntRange(min=1),
    default=500,
    show_default=True,
    metavar="STEPS",
    help="Steps between validations.",
)
@click.option(
    "--keep-best",
    metavar="lowest:NUMBER|highest:NUMBER",
    help="Keep the weights of the best validation in best.safetensors, as by lowest:validation_loss.",
)
@click.option(
    "--evaluate",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="CHECKPOINT",
    help="Measure a checkpoint (FOLDER/checkpoints/step-N) on the validation data, and train nothing.",
)
@click.option(
    "--cache", type=click.Path(path_type=Path), help="Folder for cached features; by default the user's."
)
@click.option("--local_rank", "--local-rank", type=int, hidden=True, help="Given by DeepSpeed's launcher.")
@quiet_option
@plugin_option
@click.pass_context
def command(context: click.Context, /, local_rank: int | None, **options: Any) -> None:
    """Train an encoder, a grouper or a labeler.

    Give the same command again to go on with a training that was stopped. For several processes start it
    with torchrun, for several machines see docs/training.md.
    """
    if local_rank is not None:
        os.environ.setdefault("LOCAL_RANK", str(local_rank))
    from ovvol_bench.training.engine import join_group
    from ovvol_bench.training.loader import reading_processes
    from ovvol_bench.training.loop import evaluate, train

    join_group()
    _show_reports()
    output = options["output"]
    if output and in_utf8(str(output)) != str(output):
        raise OutputError(
            f"--output {in_utf8(str(output))}: its name is not UTF-8, and TensorBoard can't write there. "
            "Choose another."
        )
    if options["workers"] is None:
        options["workers"] = reading_processes()
    registry = registry_from(context)
    plan = _plan(registry, options)
    folder = output or Path("runs/train") / plan.spec.recipe / plan.spec.id
    conduct = _conduct(options, plan, folder)
    if options["evaluate"]:
        numbers = evaluate(plan.recipe, conduct, options["evaluate"])
        _say("\n".join(f"{name}: {value:.6g}" for name, value in numbers.items()) or "nothing to measure on")
        return
    # The first of the processes holds the folder for all.
    advice = "give this training another folder with --output"
    with claimed(folder / "lock", advice) if _is_main() else nullcontext():
        plan.claim(folder)
        _say(_summary(plan, folder))
        with _progress() as progress:
            outcome = train(plan.recipe, replace(conduct, progress=progress, tell=registry.tell))
        _say(_ending(outcome, options["kind"], folder))


def _plan(registry: Registry, options: Mapping[str, Any]) -> TrainingPlan:
    from ovvol_bench.data.cache import cache_folder
    from ovvol_bench.runs.selection import load_preset
    from ovvol_bench.training.plan import TrainingRequest, make_plan

    typed = (
        "kind", "name", "recipe", "settings", "encoder", "dataset", "validation",
        "seed", "precision", "device", "workers",
    )  # fmt: skip
    cache = options["cache"]
    request = TrainingRequest(
        preset=load_preset(options["preset"], registry),
        cache=cache_folder(str(cache) if cache else None),
        **{name: options[name] for name in typed},
    )
    return make_plan(registry, request)


def _conduct(options: Mapping[str, Any], plan: TrainingPlan, folder: Path) -> Conduct:
    from ovvol_bench.runs.learned import HEADER, header_text
    from ovvol_bench.training.checkpoints import Best
    from ovvol_bench.training.loop import Conduct

    typed = (
        "seed", "device", "deepspeed", "micro_batch", "workers", "steps",
        "keep", "save_every", "log_every", "measure_every",
    )  # fmt: skip
    about = {
        "recipe": plan.spec.recipe,
        "training": plan.spec.id,
        "seed": str(plan.spec.seed),
        HEADER: header_text(plan.learned),
    }
    return Conduct(
        folder=folder,
        about=about,
        precision=plan.spec.precision,
        spec={"id": plan.spec.id, **plan.spec.identity},
        best=Best.of(options["keep_best"]) if options["keep_best"] else None,
        **{name: options[name] for name in typed},
    )


def _summary(plan: TrainingPlan, folder: Path) -> str:
    from ovvol_bench.training.optimization import trained_parameters

    recipe, numbers = plan.recipe, plan.recipe.optimization
    parameters = sum(value.numel() for value in trained_parameters(recipe).values())
    skipped = recipe.examples.skipped.items()
    first = (
        f"recipe {plan.spec.recipe}: {len(recipe.examples)} examples, {numbers.epochs:g} epochs of steps of "
        f"{numbers.batch_size}, {parameters / 1e6:.2f} M parameters, {plan.spec.precision}: {folder}"
    )
    return "\n".join([first, *(f"{count} left out: {reason}" for reason, count in skipped if count)])


def _ending(outcome: Outcome, kind: str, folder: Path) -> str:
    if outcome.is_finished:
        again = " (nothing was left to do)" if outcome.step == outcome.resumed_from else ""
        return f"done after {outcome.step} steps{again}. Use it: -o {kind}.weights={outcome.weights}"
    return (
        f"stopped after {outcome.step} of {outcome.total} steps, saved in {folder}. Go on with:\n"
        f"  {shlex.join(['ovvol-bench', *sys.argv[1:]])}"
    )


def _show_reports() -> None:
    """Let what training reports by logging, such as cache hits, reach the terminal; from one process."""
    logger = logging.getLogger("ovvol_bench.training")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.handlers = [handler]
    logger.setLevel(logging.INFO if _is_main() else logging.ERROR)


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _say(text: str) -> None:
    """Print once, not once a process."""
    if _is_main():
        click.echo(text)


@contextmanager
def _progress() -> Iterator[Callable[[int, int, Mapping[str, Any]], None]]:
    """A bar with loss, speed and time left on terminals; nothing elsewhere."""
    from ovvol_bench.progress import progress_bars

    if not _is_main():
        yield lambda done, total, row: None
        return
    with progress_bars("steps") as update:
        yield lambda done, total, row: update("training", done, total, f"loss {row['loss']:.4g}")
