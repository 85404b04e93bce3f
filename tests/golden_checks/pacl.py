"""Case d: patch-aligned CLIP."""

import json

import numpy as np
import torch
from ovvol_plugins.pacl.model import PaclLabeler
from ovvol_plugins.pacl.training import Contrast, PaclTraining, contrast
from safetensors.torch import load_file

from ovvol_bench.clip.towers import ClipNumbers, build_towers
from ovvol_bench.naming.prompts import Prompts, TextBank
from ovvol_bench.naming.scores import prompt_logits
from ovvol_bench.naming.slots import pool


def load_case(folder):
    case = json.loads((folder / "pacl.json").read_text())
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
    return case, load_file(folder / case["files"]["tensors"]), labeler.eval()


def assert_near(found, want, tolerance):
    limit = min(tolerance["abs"], tolerance.get("cpu_float32_abs", tolerance["abs"]))
    torch.testing.assert_close(found.float(), want.float(), atol=limit, rtol=tolerance["rel"])


def some_text(embeddings):
    names = tuple(f"word {i}" for i in range(len(embeddings)))
    prompts = Prompts(names, np.arange(len(names)), names, len(names) - 1)
    return TextBank.of(prompts, embeddings)


@torch.no_grad()
def test_golden_pacl_alignment(golden):
    case, tensors, labeler = load_case(golden)
    for item in case["cases"]:
        i, tolerance = item["index"], case["tolerance"]
        images = tensors[f"input_{i}"].float()
        aligned = labeler.align(images)
        assert aligned.patches.shape[1] * aligned.patches.shape[2] == item["patches"]
        assert_near(aligned.image, tensors[f"visual_feat_{i}"], tolerance)
        assert_near(aligned.patches.flatten(1, 2), tensors[f"patch_feat_{i}"], tolerance)
        assert_near(aligned.attention.flatten(1)[:, None], tensors[f"x_attn_{i}"], tolerance)
        assert_near(aligned.pooled, tensors[f"patch_pool_{i}"], tolerance)
        own = labeler.tower_output(labeler.trunk(images))[:, 1:]
        assert_near(own, tensors[f"original_patch_feat_{i}"], tolerance)
        assert_near(contrast(aligned), tensors[f"loss_{i}"], tolerance)
        assert_near(contrast(aligned), torch.tensor(item["loss"]), tolerance)
        assert_near(aligned.attention.max(), torch.tensor(item["attn_max"]), tolerance)
        entropy = torch.special.entr(aligned.attention).sum((1, 2)).mean()
        assert_near(entropy, torch.tensor(item["attn_entropy"]), tolerance)
        inference = labeler.embed_patches(images[None])[0]
        assert_near(inference, aligned.patches, tolerance)


def test_golden_pacl_gradients(golden):
    case, tensors, labeler = load_case(golden)
    contrast(labeler.align(tensors[f"input_{case['gradient_case']}"].float())).backward()
    parameters = dict(labeler.named_parameters())
    for name in case["gradients"]:
        want = tensors[f"grad.{name}"]
        assert (parameters[name].grad - want).abs().max() <= 1e-3 * want.abs().max(), name
    assert all(value.grad is None for value in labeler.model.parameters())


def test_golden_pacl_recipe(golden):
    case, tensors, labeler = load_case(golden)
    module = PaclTraining(labeler, Contrast())
    for item in case["cases"]:
        images = tensors[f"input_{item['index']}"].float()
        with torch.no_grad():
            tokens = labeler.trunk(images)
            image = labeler.tower_output(tokens)[:, 0]
        loss = module({"pixels": images, "tokens": tokens, "image": image})["loss"]
        assert_near(loss.detach(), tensors[f"loss_{item['index']}"], case["tolerance"])
        if item["index"] == case["gradient_case"]:
            loss.backward()
    parameters = dict(module.named_parameters())
    for name in case["gradients"]:
        want = tensors[f"grad.{name}"]
        assert (parameters[name].grad - want).abs().max() <= 1e-3 * want.abs().max(), name


@torch.no_grad()
def test_golden_pacl_logits_of_a_clip(golden):
    case, tensors, labeler = load_case(golden)
    video = tensors["video"].float().permute(0, 3, 1, 2)[None]
    patches = labeler.embed_patches(video)[0]
    assert_near(patches.flatten(0, 2), tensors["video_patch_feat"], case["tolerance"])
    text = some_text(tensors["video_text_features"].numpy())
    weights = tensors["video_masks"].unflatten(1, patches.shape[:3])
    for scale, temperature, want in (
        (1.0, case["video"]["temperature"], "video_logits"),
        (1e-6, 10.0, "video_logits_tiny_feat"),
    ):
        found = torch.from_numpy(prompt_logits(pool(weights, patches * scale), text, temperature))
        limit = case["tolerance"]["logits_abs"]
        torch.testing.assert_close(found, tensors[want], atol=limit, rtol=case["tolerance"]["rel"])
