"""Case d: patch-aligned CLIP."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from golden_vectors import assert_gradients, assert_near, load_case, load_tensors

from ovvol_bench.naming.localize import pool
from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.naming.rule import prompt_logits
from ovvol_bench.nn.clip.towers import ClipNumbers, build_towers
from ovvol_bench.training import TrainingTask
from ovvol_plugins.pacl import pacl_recipe
from ovvol_plugins.pacl.contrast import pool_patches, similarities
from ovvol_plugins.pacl.model import PaclLabeler


def load(folder):
    case = load_case(folder, "pacl")
    config = case["config"]
    numbers = ClipNumbers(
        embed_dim=config["output_dim"],
        patch_size=config["patch_size"],
        image_size=config["pretrain_resolution"],
        width=config["width"],
        layers=config["layers"],
        heads=config["heads"],
        text_width=16,
        text_layers=1,
        text_heads=1,
    )
    labeler = PaclLabeler(build_towers(numbers.config()), pixel_statistics="clip")
    labeler.load_weights(folder / case["files"]["weights"])
    return case, load_tensors(folder, case), labeler.eval()


def some_text(embeddings):
    names = tuple(f"word {i}" for i in range(len(embeddings)))
    prompts = Prompts(names, np.arange(len(names)), names, len(names) - 1)
    return TextBank.of(prompts, embeddings)


def frozen(labeler, images):
    """Tokens before the tower's last block, and the tower's embedding of the whole."""
    with torch.no_grad():
        tokens = labeler.trunk(images)
        return tokens, labeler.tower_output(tokens)[:, 0].float()


@torch.no_grad()
def test_golden_pacl_alignment(golden):
    case, tensors, labeler = load(golden)
    for item in case["cases"]:
        i, tolerance = item["index"], case["tolerance"]
        images = tensors[f"input_{i}"].float()
        tokens, image = frozen(labeler, images)
        patches = labeler.head(tokens).unflatten(1, labeler.grid(images))
        attention, pooled = pool_patches(patches, image)
        loss = F.cross_entropy(*similarities(pooled, image))
        assert patches.flatten(1, 2).shape[1] == item.get("patches", tensors[f"patch_feat_{i}"].shape[1])
        assert_near(image, tensors.get(f"visual_feat_{i}"), tolerance)
        assert_near(patches.flatten(1, 2), tensors[f"patch_feat_{i}"], tolerance)
        assert_near(attention.flatten(1)[:, None], tensors.get(f"x_attn_{i}"), tolerance)
        assert_near(pooled, tensors.get(f"patch_pool_{i}"), tolerance)
        own = labeler.tower_output(labeler.trunk(images))[:, 1:]
        assert_near(own, tensors.get(f"original_patch_feat_{i}"), tolerance)
        assert_near(loss, tensors.get(f"loss_{i}"), tolerance)
        assert_near(loss, item.get("loss"), tolerance)
        assert_near(attention.max(), item.get("attn_max"), tolerance)
        entropy = torch.special.entr(attention).sum((1, 2)).mean()
        assert_near(entropy, item.get("attn_entropy"), tolerance)
        inference = labeler.embed_patches(images[None])[0]
        assert_near(inference, patches, tolerance)


def test_golden_pacl_recipe(golden):
    case, tensors, labeler = load(golden)
    data = SimpleNamespace(training_images=lambda: None)
    task = TrainingTask(labeler, data, None, None, Path("unused"), seed=0)
    recipe = pacl_recipe(task, image_size=labeler.patch_size)
    for item in case["cases"]:
        images = tensors[f"input_{item['index']}"].float()
        tokens, image = frozen(labeler, images)
        loss = recipe({"pixels": images, "tokens": tokens, "image": image})["loss"]
        assert_near(loss.detach(), tensors.get(f"loss_{item['index']}"), case["tolerance"])
        if item["index"] == case.get("gradient_case"):
            loss.backward()
    assert_gradients(recipe, case, tensors)
    assert all(value.grad is None for value in labeler.model.parameters())


@torch.no_grad()
def test_golden_pacl_logits_of_a_clip(golden):
    case, tensors, labeler = load(golden)
    if "video" not in tensors:
        pytest.skip("the case has no clip")
    video = tensors["video"].float().permute(0, 3, 1, 2)[None]
    patches = labeler.embed_patches(video)[0]
    assert_near(patches.flatten(0, 2), tensors.get("video_patch_feat"), case["tolerance"])
    text = some_text(tensors["video_text_features"].numpy())
    weights = tensors["video_masks"].unflatten(1, patches.shape[:3])
    for scale, temperature, want in (
        (1.0, case["video"]["temperature"], "video_logits"),
        (1e-6, 10.0, "video_logits_tiny_feat"),
    ):
        found = torch.from_numpy(prompt_logits(pool(weights, patches * scale), text, temperature))
        limit = case["tolerance"].get("logits_abs", 2e-3)
        assert_near(found, tensors.get(want), case["tolerance"], limit)
