"""The contract of recipes: a few steps on rendered videos, validated, saved, stopped and gone on with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch

from ovvol_bench.registry import Registry
from ovvol_bench.runs.selection import Preset
from ovvol_bench.testing.findings import Report, expect, run_checks
from ovvol_bench.training.loop import Conduct, train
from ovvol_bench.training.plan import TrainedKind, TrainingRequest, make_plan
from ovvol_bench.weights import read_state

STEPS = 2
SMALL: Mapping[str, Any] = {
    "batch_size": 2, "sizes": "64x64", "strides": "1", "clips_per_video": 1, "evaluate_clips": 2,
    "size": 64, "frames": 4, "sampling_rate": 1, "calibrate_clips": 0, "image_size": 64,
}  # fmt: skip
"""Settings of recipes that make a step quick, unless they were set; a recipe may have none of them."""


def check_recipe(
    registry: Registry, kind: str, name: str, recipe: str | None, preset: Preset, settings: Mapping[str, Any]
) -> Report:
    """Hold a recipe to its contract, on a few videos of dataset shapes.

    Args:
        registry: knows the component.
        kind: encoder, grouper or labeler.
        name: of the component.
        recipe: by name; None: the component's usual one.
        preset: for the parts beside the component, such as a grouper's encoder.
        settings: of the component and of ``recipe``, by kind.

    Raises:
        UnknownNameError, SettingError: if a name or a setting is wrong.
    """
    found = registry.recipe(kind, name, recipe)
    quick = {key: value for key, value in SMALL.items() if key in found.settings}
    with TemporaryDirectory() as folder:
        request = TrainingRequest(
            kind=cast(TrainedKind, kind),
            name=name,
            recipe=found.name,
            preset=preset.model_copy(update={"training": {}}),  # the data is this check's own
            settings={
                **settings,
                "recipe": {**quick, **settings.get("recipe", {})},
                "dataset": {"split": "train", "videos": 4},
                "validation": {"split": "val", "videos": 2},
            },
            encoder=None,
            dataset="shapes",
            validation="shapes",
            seed=0,
            precision="float32",
            device="cpu",
            cache=Path(folder) / "cache",
        )
        contract = RecipeContract(registry, request, Path(folder))
        checks = (contract.trains, contract.goes_on, contract.weights_load)
        return run_checks(f"recipe '{found.name}' of {kind} '{name}'", checks)


class RecipeContract:
    """Promises of a recipe.

    Args:
        registry: knows the component.
        request: for a training of few examples.
        folder: for trainings.
    """

    def __init__(self, registry: Registry, request: TrainingRequest, folder: Path) -> None:
        self.registry, self.request, self.folder = registry, request, folder

    def trained(self, name: str, steps: int) -> dict[str, torch.Tensor]:
        """Train in a folder from wherever it stands, and return the weights."""
        plan = make_plan(self.registry, self.request)
        folder = self.folder / name
        train(
            plan.recipe, Conduct(folder, 0, {}, device="cpu", steps=steps, log_every=1, measured_examples=2)
        )
        return dict(read_state(folder / "weights.safetensors"))

    def trains(self) -> None:
        """Takes steps with finite losses, is validated, and saves weights."""
        self.trained("whole", STEPS)
        rows = [json.loads(line) for line in (self.folder / "whole" / "log.jsonl").read_text().splitlines()]
        losses = [row["loss"] for row in rows if "loss" in row]
        expect(len(losses) == STEPS, f"{len(losses)} steps were logged; expected {STEPS}")
        expect(any("loss" not in row for row in rows), "no validation was logged; set Recipe.validation")

    def goes_on(self) -> None:
        """Goes on after a stop as if there had been none."""
        whole = self.trained("whole", STEPS)
        self.trained("parts", 1)
        parts = self.trained("parts", STEPS)
        differing = [name for name, value in whole.items() if not torch.equal(value, parts[name])]
        expect(
            not differing,
            f"{', '.join(differing[:3])} came out otherwise; is everything that changes a parameter or "
            "buffer of the recipe, and are all draws those of the example?",
        )

    def weights_load(self) -> None:
        """Saves weights that the component loads."""
        self.trained("whole", STEPS)
        component = make_plan(self.registry, self.request).component
        component.load_weights(self.folder / "whole" / "weights.safetensors")
