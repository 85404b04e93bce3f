"""Examples a second of every recipe, as a preset trains it, on a few rendered videos.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/training_speed.py [RECIPES [PRESET [STEPS [OPTION ...]]]]

``RECIPES`` is a list with commas, or ``all``; options are those of ``ovvol-bench train -o``. Medians of steps
after the first five; reading examples is part of a step, validation and checkpoints are not. Beside the clock
stand seconds of the processor, which other work on the machine disturbs less. ``read`` is the share of a step
that waits for examples.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tabulate import tabulate

from ovvol_bench.cli.common import parse_settings
from ovvol_bench.cli.train import SETTING_KINDS
from ovvol_bench.fidelity import best_precision
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.training import loop
from ovvol_bench.training.board import Row
from ovvol_bench.training.loop import Conduct, train
from ovvol_bench.training.plan import TrainingPlan, TrainingRequest, make_plan
from ovvol_bench.training.recipe import Batch

RECIPES = {
    "videomae": ("encoder", "videomae"),
    "slot_attention": ("grouper", "slot_attention"),
    "clip": ("labeler", "pacl"),
    "pacl": ("labeler", "pacl"),
}
FEW = ("dataset.videos=96", "validation.videos=2", "recipe.evaluate_clips=0", "recipe.calibrate_clips=0")
WARM_UP = 5


def plan_of(recipe: str, preset: str, options: tuple[str, ...], cache: Path) -> TrainingPlan:
    """The preset's training, on few videos; of ``FEW`` what the recipe has."""
    registry = load_registry()
    kind, name = RECIPES[recipe]
    known = registry.recipe(kind, name, recipe).settings
    few = [text for text in FEW if not text.startswith("recipe.") or text[7:].split("=")[0] in known]
    settings = parse_settings(
        (*few, f"dataset.cache={cache}", f"validation.cache={cache}", *options), SETTING_KINDS
    )
    precision = str(best_precision(torch.device("cpu"))).removeprefix("torch.")
    request = TrainingRequest(
        kind=kind, name=name, recipe=recipe, preset=load_preset(preset), settings=settings,
        encoder=None, dataset=None, validation=None, seed=0, precision=precision, device="auto", cache=cache,
    )  # fmt: skip
    return make_plan(registry, request)


def timed(batches: Iterator[Batch], waits: list[float]) -> Iterator[Batch]:
    """The same batches, with the seconds that each was waited for."""
    while True:
        begun = time.perf_counter()
        batch = next(batches, None)
        waits.append(time.perf_counter() - begun)
        if batch is None:
            return
        yield batch


def measure(recipe: str, preset: str, steps: int, options: tuple[str, ...], cache: Path) -> Row:
    """A row of the table."""
    plan = plan_of(recipe, preset, options, cache)
    rows: list[Row] = []
    waits: list[float] = []
    read = loop.read_batches
    loop.read_batches = lambda *arguments: timed(read(*arguments), waits)
    with TemporaryDirectory() as folder:
        conduct = Conduct(
            Path(folder), 0, {}, precision=plan.spec.precision, steps=WARM_UP + steps, measure_every=10**9,
            progress=lambda done, total, row: rows.append({**row, "processor": time.process_time()}),
        )  # fmt: skip
        plan.recipe.validation = None
        train(plan.recipe, conduct)
    loop.read_batches = read
    seconds = statistics.median(row["seconds"] for row in rows[WARM_UP:])
    processor = statistics.median(
        after["processor"] - before["processor"] for before, after in pairwise(rows[WARM_UP - 1 :])
    )
    batch = plan.recipe.optimization.batch_size
    return {
        "recipe": recipe,
        "batch": batch,
        "s a step": f"{seconds:.4f}",
        "of the processor": f"{processor:.4f}",
        "examples a second": f"{batch / seconds:.1f}",
        "read": f"{statistics.median(waits[WARM_UP : WARM_UP + steps]) / seconds:.0%}",
        "last loss": f"{rows[-1]['loss']:.6f}",
    }


def main(recipes: str = "all", preset: str = "shapes", steps: str = "30", *options: str) -> None:
    """Print the table."""
    names = RECIPES if recipes == "all" else recipes.split(",")
    with TemporaryDirectory() as cache:
        rows = [measure(name, preset, int(steps), options, Path(cache)) for name in names]
    sys.stdout.write(f"{preset}, {torch.get_num_threads()} threads\n")
    sys.stdout.write(tabulate(rows, headers="keys", disable_numparse=True) + "\n")


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
