"""Case c: slot attention on frozen features."""

import json
from dataclasses import replace

import torch
import torch.nn.functional as F
from ovvol_plugins.videomae.model import VideoMAE, VideoMAESettings
from safetensors.torch import load_file

from ovvol_bench.slots.model import SlotAttentionGrouper, SlotAttentionSettings
from ovvol_bench.slots.recipe import ReconstructionLoss
from ovvol_bench.slots.training import reconstruction_loss, slots_used


def load_case(folder):
    case = json.loads((folder / "slot_attention.json").read_text())
    return case, load_file(folder / case["files"]["tensors"])


def load_settings(config):
    hidden = config["decoder_hidden"]
    return SlotAttentionSettings(
        num_slots=config["n_slots"],
        slot_dim=config["object_dim"],
        feature_dim=config["feat_dim"],
        frames=config["num_frames"],
        iterations=config["slot_iters"],
        decoder_dim=hidden[0],
        decoder_layers=len(hidden),
        position_grid=round(config["num_patches_per_frame_in_table"] ** 0.5),
    )


def load_grouper(folder, case, settings):
    grouper = SlotAttentionGrouper(settings)
    grouper.load_weights(folder / case["files"]["weights"])
    return grouper


def as_grid(tokens, case):
    return tokens.unflatten(1, (case["config"]["num_frames"], *case["grid"]))


def assert_near(found, want, tolerance, limit=None):
    limit = limit or min(tolerance["abs"], tolerance.get("cpu_float32_abs", tolerance["abs"]))
    torch.testing.assert_close(found.float(), want.float(), atol=limit, rtol=tolerance["rel"])


def test_golden_slot_attention_names_are_the_published_ones(golden):
    case, _ = load_case(golden)
    state = load_grouper(golden, case, load_settings(case["config"])).state_dict()
    published = {k: v for k, v in case["official_state_dict"].items() if not k.startswith("model.")}
    assert {name: list(value.shape) for name, value in state.items()} == published


@torch.no_grad()
def test_golden_slot_attention_features_of_the_encoder(golden):
    case, tensors = load_case(golden)
    config = case["config"]["encoder"]
    encoder = VideoMAE(
        VideoMAESettings(dim=config["embed_dim"], depth=config["depth"], heads=config["num_heads"])
    )
    encoder.load_weights(golden / json.loads((golden / "videomae.json").read_text())["files"]["weights"])
    video = tensors["images"].float().permute(0, 1, 4, 2, 3)
    found = encoder.encode(video).grid
    assert_near(found, as_grid(tensors["features"], case), case["tolerance"])


@torch.no_grad()
def test_golden_slot_attention_slots_and_attention(golden):
    case, tensors = load_case(golden)
    settings, tolerance = load_settings(case["config"]), case["tolerance"]
    grid, noise = as_grid(tensors["features"], case), tensors["noise"].float()
    grouper = load_grouper(golden, case, settings)
    assert_near(grouper.conditioning(noise), tensors["conditioning"], tolerance)
    projected = grouper.grouping.positional_embedding(tensors["features"])
    assert_near(projected, tensors["projected_features"], tolerance)
    once = load_grouper(golden, case, replace(settings, iterations=1))
    for model, suffix in ((once, "_iter1"), (grouper, "")):
        slots, attention = model.slots(grid, noise)
        assert_near(slots, tensors[f"slots{suffix}"], tolerance)
        assert_near(attention, tensors[f"attn{suffix}"], tolerance)


@torch.no_grad()
def test_golden_slot_attention_masks(golden):
    case, tensors = load_case(golden)
    grouper = load_grouper(golden, case, load_settings(case["config"]))
    grid, noise = as_grid(tensors["features"], case), tensors["noise"].float()
    decoded = grouper.reconstruct(grid, noise)
    assert_near(decoded.features.flatten(1, 3), tensors["reconstruction"], case["tolerance"])
    masks = grouper.decoder.masks(grouper.slots(grid, noise)[0], tuple(case["grid"]))
    for found in (decoded.masks, masks):
        by_frame = found.transpose(1, 2).flatten(0, 1)
        want = tensors["masks"].unflatten(2, case["grid"])
        assert_near(by_frame, want, case["tolerance"], case["tolerance"].get("masks", 2e-4))
        image = F.interpolate(by_frame, (case["height"], case["width"]), mode="bilinear")
        assert_near(image, tensors["masks_as_image"], case["tolerance"], 2e-4)
        assert torch.equal(found.argmax(1).flatten(2).int(), tensors["masks_argmax"])
        assert slots_used(found).tolist() == case["slots_used"]


def test_golden_slot_attention_loss_and_gradients(golden):
    case, tensors = load_case(golden)
    grouper = load_grouper(golden, case, load_settings(case["config"]))
    loss, parts = reconstruction_loss(grouper, as_grid(tensors["features"], case), tensors["noise"].float())
    for want in (case["feat_recon_loss"], tensors["feat_recon_loss"].item()):
        assert_near(loss, torch.tensor(want), case["tolerance"])
    assert parts["slots_used"] == sum(case["slots_used"]) / len(case["slots_used"])
    loss.backward()
    assert_gradients(grouper, case, tensors)


def test_golden_slot_attention_through_the_recipes_module(golden):
    case, tensors = load_case(golden)
    module = ReconstructionLoss(load_grouper(golden, case, load_settings(case["config"])))
    batch = {"features": as_grid(tensors["features"], case), "noise": tensors["noise"].float()}
    losses = module(batch)
    assert_near(losses["loss"], tensors["feat_recon_loss"], case["tolerance"])
    assert losses["slots_used"] == sum(case["slots_used"]) / len(case["slots_used"])
    masks = tensors["masks"]
    entropy = -(masks * masks.log()).sum(1).mean()
    assert_near(losses["slot_entropy"], entropy, case["tolerance"], 2e-4)
    losses["loss"].backward()
    assert_gradients(module.grouper, case, tensors)


def assert_gradients(grouper, case, tensors):
    parameters = dict(grouper.named_parameters())
    for name, recorded in case["gradients"].items():
        want = tensors[f"grad.{name}"]
        assert (parameters[name].grad - want).abs().max() <= 1e-3 * recorded["max_abs"], name
    norm = torch.stack([value.grad.norm() for value in parameters.values()]).norm().item()
    assert abs(norm - case["total_gradient_norm"]) <= 1e-3 * case["total_gradient_norm"]
