"""Case d: patch-aligned CLIP."""

import numpy as np
import pytest
import torch
from golden_vectors import assert_gradients, assert_near, load_case, load_tensors

from ovvol_bench.naming.localize import pool
from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.naming.rule import prompt_logits
from ovvol_bench.nn.clip.towers import ClipNumbers, build_towers
from ovvol_plugins.pacl.model import PaclLabeler
from ovvol_plugins.pacl.training import Contrast, PaclTraining, contrast


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


@torch.no_grad()
def test_golden_pacl_alignment(golden):
    case, tensors, labeler = load(golden)
    for item in case["cases"]:
        i, tolerance = item["index"], case["tolerance"]
        images = tensors[f"input_{i}"].float()
        aligned = labeler.align(images)
        assert aligned.patches.flatten(1, 2).shape[1] == item.get(
            "patches", tensors[f"patch_feat_{i}"].shape[1]
        )
        assert_near(aligned.image, tensors.get(f"visual_feat_{i}"), tolerance)
        assert_near(aligned.patches.flatten(1, 2), tensors[f"patch_feat_{i}"], tolerance)
        assert_near(aligned.attention.flatten(1)[:, None], tensors.get(f"x_attn_{i}"), tolerance)
        assert_near(aligned.pooled, tensors.get(f"patch_pool_{i}"), tolerance)
        own = labeler.tower_output(labeler.trunk(images))[:, 1:]
        assert_near(own, tensors.get(f"original_patch_feat_{i}"), tolerance)
        assert_near(contrast(aligned), tensors.get(f"loss_{i}"), tolerance)
        assert_near(contrast(aligned), item.get("loss"), tolerance)
        assert_near(aligned.attention.max(), item.get("attn_max"), tolerance)
        entropy = torch.special.entr(aligned.attention).sum((1, 2)).mean()
        assert_near(entropy, item.get("attn_entropy"), tolerance)
        inference = labeler.embed_patches(images[None])[0]
        assert_near(inference, aligned.patches, tolerance)


def test_golden_pacl_gradients(golden):
    case, tensors, labeler = load(golden)
    if "gradient_case" not in case:
        pytest.skip("the case has no gradients")
    contrast(labeler.align(tensors[f"input_{case['gradient_case']}"].float())).backward()
    assert_gradients(labeler, case, tensors)
    assert all(value.grad is None for value in labeler.model.parameters())


def test_golden_pacl_recipe(golden):
    case, tensors, labeler = load(golden)
    module = PaclTraining(labeler, Contrast())
    for item in case["cases"]:
        images = tensors[f"input_{item['index']}"].float()
        with torch.no_grad():
            tokens = labeler.trunk(images)
            image = labeler.tower_output(tokens)[:, 0]
        loss = module({"pixels": images, "tokens": tokens, "image": image})["loss"]
        assert_near(loss.detach(), tensors.get(f"loss_{item['index']}"), case["tolerance"])
        if item["index"] == case.get("gradient_case"):
            loss.backward()
    assert_gradients(module, case, tensors)


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
