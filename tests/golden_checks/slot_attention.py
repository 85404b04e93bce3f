"""Case c: slot attention on frozen features."""

import pytest
import torch
import torch.nn.functional as F
from golden_vectors import assert_gradients, assert_near, load_case, load_tensors

from ovvol_bench.training.grouping import slots_used
from ovvol_plugins.slot_attention.model import SlotAttentionGrouper
from ovvol_plugins.slot_attention.recipe import reconstruction_loss
from ovvol_plugins.videomae.model import VideoMAE
from ovvol_plugins.videomae.settings import VideoMAESettings


def load(folder):
    case = load_case(folder, "slot_attention")
    return case, load_tensors(folder, case)


def load_settings(config):
    hidden = config["decoder_hidden"]
    return {
        "num_slots": config["n_slots"],
        "slot_dim": config["object_dim"],
        "feature_dim": config["feat_dim"],
        "frames": config["num_frames"],
        "iterations": config["slot_iters"],
        "decoder_dim": hidden[0],
        "decoder_layers": len(hidden),
        "position_grid": round(config["num_patches_per_frame_in_table"] ** 0.5),
    }


def load_grouper(folder, case, settings):
    grouper = SlotAttentionGrouper(**settings)
    grouper.load_weights(folder / case["files"]["weights"])
    return grouper


def as_grid(tokens, case):
    return tokens.unflatten(1, (case["config"]["num_frames"], *case["grid"]))


def test_golden_slot_attention_names_are_the_published_ones(golden):
    case, _ = load(golden)
    if "official_state_dict" not in case:
        pytest.skip("the case doesn't list its weights")
    state = load_grouper(golden, case, load_settings(case["config"])).state_dict()
    published = {k: v for k, v in case["official_state_dict"].items() if not k.startswith("model.")}
    assert {name: list(value.shape) for name, value in state.items()} == published


@torch.no_grad()
def test_golden_slot_attention_features_of_the_encoder(golden):
    case, tensors = load(golden)
    config = case["config"].get("encoder")
    if config is None or "images" not in tensors:
        pytest.skip("the case begins with features")
    encoder = VideoMAE(
        VideoMAESettings(dim=config["embed_dim"], depth=config["depth"], heads=config["num_heads"])
    )
    encoder.load_weights(golden / load_case(golden, "videomae")["files"]["weights"])
    video = tensors["images"].float().permute(0, 1, 4, 2, 3)
    found = encoder.encode(video).grid
    assert_near(found, as_grid(tensors["features"], case), case["tolerance"])


@torch.no_grad()
def test_golden_slot_attention_slots_and_attention(golden):
    case, tensors = load(golden)
    settings, tolerance = load_settings(case["config"]), case["tolerance"]
    grid, noise = as_grid(tensors["features"], case), tensors["noise"].float()
    grouper = load_grouper(golden, case, settings)
    assert_near(grouper.conditioning(noise), tensors.get("conditioning"), tolerance)
    projected = grouper.grouping.positional_embedding(tensors["features"])
    assert_near(projected, tensors.get("projected_features"), tolerance)
    once = load_grouper(golden, case, settings | {"iterations": 1})
    for model, suffix in ((once, "_iter1"), (grouper, "")):
        slots, attention = model.slots(grid, noise)
        assert_near(slots, tensors.get(f"slots{suffix}"), tolerance)
        assert_near(attention, tensors.get(f"attn{suffix}"), tolerance)


@torch.no_grad()
def test_golden_slot_attention_masks(golden):
    case, tensors = load(golden)
    grouper = load_grouper(golden, case, load_settings(case["config"]))
    grid, noise = as_grid(tensors["features"], case), tensors["noise"].float()
    decoded = grouper.reconstruct(grid, noise)
    assert_near(decoded.features.flatten(1, 3), tensors.get("reconstruction"), case["tolerance"])
    masks = grouper.decoder.masks(grouper.slots(grid, noise)[0], tuple(case["grid"]))
    for found in (decoded.masks, masks):
        by_frame = found.transpose(1, 2).flatten(0, 1)
        want = tensors["masks"].unflatten(2, case["grid"])
        assert_near(by_frame, want, case["tolerance"], case["tolerance"].get("masks_abs", 2e-4))
        image = F.interpolate(by_frame, (case["height"], case["width"]), mode="bilinear")
        assert_near(image, tensors.get("masks_as_image"), case["tolerance"], 2e-4)
        winners = found.argmax(1).flatten(2).int()
        assert torch.equal(winners, tensors.get("masks_argmax", winners))
        assert slots_used(found).tolist() == case.get("slots_used", slots_used(found).tolist())


def test_golden_slot_attention_loss_and_gradients(golden):
    case, tensors = load(golden)
    grouper = load_grouper(golden, case, load_settings(case["config"]))
    loss, parts = reconstruction_loss(grouper, as_grid(tensors["features"], case), tensors["noise"].float())
    for given in (case, tensors):
        assert_near(loss, given.get("feat_recon_loss"), case["tolerance"])
    assert_slots_used(parts, case)
    masks = tensors["masks"]
    assert_near(parts["slot_entropy"], -(masks * masks.log()).sum(1).mean(), case["tolerance"], 2e-4)
    loss.backward()
    assert_all_gradients(grouper, case, tensors)


def assert_slots_used(parts, case):
    if "slots_used" in case:
        assert parts["slots_used"] == sum(case["slots_used"]) / len(case["slots_used"])


def assert_all_gradients(grouper, case, tensors):
    assert_gradients(grouper, case, tensors)
    if "total_gradient_norm" in case:
        norm = torch.stack([value.grad.norm() for value in grouper.parameters()]).norm().item()
        assert abs(norm - case["total_gradient_norm"]) <= 1e-3 * case["total_gradient_norm"]
