"""Recipes of an encoder and a labeler of one's own: what their bases bring."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from ovvol_bench import Grouper, SettingError
from ovvol_bench.registry import load_registry
from ovvol_bench.runs.selection import load_preset
from ovvol_bench.testing.recipes import check_recipe
from ovvol_bench.training import EncoderRecipe, TrainingTask
from ovvol_bench.training.pictures import feature_picture

GUIDE = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
EXAMPLES = {"encoder": "next_frame", "labeler": "mean_patch"}
FEW = {"encoder": {"recipe": {"warmup_epochs": 0, "epochs": 2}}, "labeler": {"recipe": {"warmup_steps": 0}}}


@pytest.fixture(params=EXAMPLES)
def example(request, tmp_path):
    """Kind and name of a component of the guide, and the plugins with it."""
    kind, name = request.param, EXAMPLES[request.param]
    (text,) = re.findall(rf"^```python\n(# {name}\.py\n.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
    (tmp_path / f"{name}.py").write_text(text)
    return kind, name, load_registry([tmp_path / f"{name}.py"])


def test_the_examples_of_the_guide_keep_the_contract_of_recipes(example):
    kind, name, registry = example
    check_recipe(registry, kind, name, None, load_preset("tiny"), FEW[kind]).raise_if_broken()


def test_settings_of_the_base_are_settings_of_the_recipe(example):
    kind, name, registry = example
    assert {"batch_size", "learning_rate", "weight_decay"} <= registry.recipe(kind, name).settings.keys()


def test_another_kind_of_component_is_refused():
    class Own(EncoderRecipe):
        def losses(self, video, batch): ...

    class Slots(Grouper):
        def group(self, features, draws): ...

    with pytest.raises(SettingError, match="trains components of class Encoder; it was given a Slots"):
        Own(TrainingTask(Slots(), None, None, None, Path(), 0))


def test_features_are_shown_by_their_principal_components():
    grid = torch.zeros(5, 2, 2, 3, 4)
    grid[:, :, 1] = torch.tensor([1.0, 0, 0, 0])  # rows differ, columns don't
    video = torch.full((5, 4, 8, 12, 3), 7, dtype=torch.uint8)
    shown = feature_picture(grid, video)
    assert shown.shape == (4 * 2 * 8, 2 * 12, 3)
    assert (shown[:8] == 7).all()
    above, below = shown[8:12], shown[12:16]
    assert len(np.unique(above[..., 0])) == len(np.unique(below[..., 0])) == 1
    assert {int(above[0, 0, 0]), int(below[0, 0, 0])} == {0, 255}


def test_pictures_of_few_channels_are_drawn():
    assert feature_picture(torch.randn(1, 1, 2, 2, 2), torch.zeros(1, 1, 4, 4, 3)).shape == (8, 4, 3)
