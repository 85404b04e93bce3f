"""Case b: masked pre-training."""

import json

import torch
from ovvol_plugins.videomae.model import VideoMAE, VideoMAEPretraining, VideoMAESettings
from ovvol_plugins.videomae.recipe import MaskedLoss
from ovvol_plugins.videomae.training import pixel_targets, pretraining_loss, tube_mask
from safetensors.torch import load_file

from ovvol_bench.weights import load_strict, read_state


def load_case(golden):
    case = json.loads((golden / "videomae_pretrain.json").read_text())
    tensors = load_file(golden / case["files"]["tensors"])
    config = case["config"]
    encoder = VideoMAE(
        VideoMAESettings(
            patch_size=config["patch_size"],
            tubelet_size=config["tubelet_size"],
            dim=config["encoder"]["embed_dim"],
            depth=config["encoder"]["depth"],
            heads=config["encoder"]["num_heads"],
            mlp_ratio=config["mlp_ratio"],
            position_frames=config["pos_table_frames"],
            position_grid=config["img_size"] // config["patch_size"],
            final_norm=True,
        )
    )
    decoder = config["decoder"]
    model = VideoMAEPretraining(encoder, decoder["embed_dim"], decoder["depth"], decoder["num_heads"])
    weights = golden / case["files"]["weights"]
    load_strict(model, read_state(weights), weights)
    return case, tensors, model


def assert_near(found, want, tolerance):
    limit = min(tolerance["abs"], tolerance.get("cpu_float32_abs", tolerance["abs"]))
    torch.testing.assert_close(found.float(), want.float(), atol=limit, rtol=tolerance["rel"])


def assert_gradients(model, case, tensors):
    parameters = dict(model.named_parameters())
    for name in case["gradients"]:
        want = tensors[f"grad.{name}"]
        assert (parameters[name].grad - want).abs().max() <= 1e-3 * want.abs().max(), name


def test_golden_videomae_pretrain_prediction_and_targets(golden):
    case, tensors, model = load_case(golden)
    video, mask = tensors["video"].float().transpose(1, 2), tensors["mask"]
    assert_near(model(video, mask), tensors["prediction"], case["tolerance"])
    assert_near(pixel_targets(model, video, mask), tensors["target"], case["tolerance"])
    model.norm_targets = False
    found = pixel_targets(model, video, mask)[0, 0]
    assert_near(found, tensors["target_unnormalised_first_patch"], case["tolerance"])


def test_golden_videomae_pretrain_loss_and_gradients(golden):
    case, tensors, model = load_case(golden)
    video, mask = tensors["video"].float().transpose(1, 2), tensors["mask"]
    loss = pretraining_loss(model, video, mask)
    assert abs(loss.item() - tensors["loss"].item()) <= case["tolerance"]["loss"]
    assert abs(loss.item() - case["loss"]) <= case["tolerance"]["loss"]
    loss.backward()
    assert_gradients(model, case, tensors)
    model.norm_targets = False
    raw = pretraining_loss(model, video, mask)
    assert abs(raw.item() - tensors["loss_unnormalised_target"].item()) <= case["tolerance"]["loss"]


def test_golden_videomae_pretrain_module_of_the_recipe(golden):
    case, tensors, model = load_case(golden)
    batch = {"video": tensors["video"].float().transpose(1, 2), "mask": tensors["mask"]}
    for further in ({}, {"decoded": tensors["mask"]}):  # all that is hidden, said and not said
        model.zero_grad()
        losses = MaskedLoss(model)({**batch, **further})
        assert abs(losses["loss"].item() - case["loss"]) <= case["tolerance"]["loss"]
        losses["loss"].backward()
        assert_gradients(model, case, tensors)


def test_golden_videomae_pretrain_mask_is_a_tube(golden):
    case, tensors, _ = load_case(golden)
    config = case["config"]
    side = config["img_size"] // config["patch_size"]
    drawn = tube_mask(
        (config["frames"], side, side), config["mask_ratio"], torch.Generator().manual_seed(0), batch=2
    )
    for mask in (tensors["mask"], drawn):
        frames = mask.view(len(mask), config["frames"], config["patches_per_frame"])
        assert (frames == frames[:, :1]).all()
        assert (frames.sum(-1) == config["masked_per_frame"]).all()
