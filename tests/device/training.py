"""A step of every recipe on a device that isn't the CPU."""

import pytest
import torch
from device.pretended import DEVICE, pretended_device

from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.testing.recipes import SMALL
from ovvol_bench.training.loader import stack
from ovvol_bench.training.plan import TrainingRequest, make_plan
from ovvol_bench.training.recipe import Draws

RECIPES = {
    "videomae": ("encoder", "videomae"),
    "slot_attention": ("grouper", "slot_attention"),
    "dinosaur": ("grouper", "dinosaur"),
    "clip": ("labeler", "pacl"),
    "pacl": ("labeler", "pacl"),
}
WAITS = {
    "videomae": {  # masks of what is hidden select tokens, so that their number is asked for
        "plugins/videomae/model.py, embed_some": 1,
        "plugins/videomae/model.py, forward": 1,
        "plugins/videomae/pretraining.py, forward": 2,
        "plugins/videomae/pretraining.py, pixel_targets": 1,
    },
    "slot_attention": {},
    "dinosaur": {},
    "clip": {"ovvol_bench/nn/clip/text.py, embed_tokens": 1, "plugins/pacl/clip_recipe.py, captions": 1},
    "pacl": {},
}
"""Waits a step by function; a change that adds one has to say why here."""


def recipe_and_batch(name, folder):
    registry, (kind, component) = load_registry(), RECIPES[name]
    quick = {
        key: value for key, value in SMALL.items() if key in registry.recipe(kind, component, name).settings
    }
    request = TrainingRequest(
        kind=kind,
        name=component,
        recipe=name,
        preset=load_preset("tiny"),
        settings={"recipe": {**quick, "cache_features": False} if "cache_features" in quick else quick},
        encoder=None,
        dataset=None,
        validation=None,
        seed=0,
        precision="float32",
        device="cpu",
        cache=folder,
    )
    recipe = make_plan(registry, request).recipe
    examples = recipe.examples
    batch = stack([examples.example(i, Draws(f"{i}", "step")) for i in range(2)])
    return recipe, batch


def loss_and_gradients(recipe, batch, device):
    recipe.to(device)
    batch = recipe.prepare({name: value.to(device) for name, value in batch.items()})
    losses = recipe(batch)
    losses["loss"].backward()
    torch.optim.AdamW([p for p in recipe.parameters() if p.grad is not None]).step()
    recipe.after_step(1, 2)
    gradients = {name: p.grad.cpu() for name, p in recipe.named_parameters() if p.grad is not None}
    return losses["loss"].detach().cpu(), gradients


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_is_that_of_the_cpu(name, tmp_path):
    expected, gradients = loss_and_gradients(*recipe_and_batch(name, tmp_path), "cpu")
    recipe, batch = recipe_and_batch(name, tmp_path)
    with pretended_device() as waits:
        found, there = loss_and_gradients(recipe, batch, DEVICE)
    torch.testing.assert_close(found, expected)
    assert there.keys() == gradients.keys()
    for each, value in gradients.items():
        torch.testing.assert_close(there[each], value, rtol=1e-3, atol=1e-6)
    assert {where: count for where, count in waits.items() if "/" in where} == WAITS[name]
