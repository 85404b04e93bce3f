"""Case b: masked pre-training."""

import torch
from golden_vectors import assert_gradients, assert_near, load_case, load_tensors

from ovvol_bench.weights import load_strict, read_state
from ovvol_plugins.videomae.model import VideoMAE
from ovvol_plugins.videomae.pretraining import VideoMAEPretraining, pixel_targets, pretraining_loss, tube_mask
from ovvol_plugins.videomae.settings import VideoMAESettings


def load(golden):
    case = load_case(golden, "videomae_pretrain")
    tensors = load_tensors(golden, case)
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


def losses_of(case, tensors):
    """The loss, from the one or the other file or from both."""
    both = [each["loss"] for each in (case, tensors) if "loss" in each]
    assert both
    return [float(each) for each in both]


def test_golden_videomae_pretrain_prediction_and_targets(golden):
    case, tensors, model = load(golden)
    video, mask = tensors["video"].float().transpose(1, 2), tensors["mask"]
    assert_near(model(video, mask), tensors.get("prediction"), case["tolerance"])
    assert_near(pixel_targets(model, video, mask), tensors.get("target"), case["tolerance"])
    model.norm_targets = False
    found = pixel_targets(model, video, mask)[0, 0]
    assert_near(found, tensors.get("target_unnormalised_first_patch"), case["tolerance"])


def test_golden_videomae_pretrain_loss_and_gradients(golden):
    case, tensors, model = load(golden)
    video, mask = tensors["video"].float().transpose(1, 2), tensors["mask"]
    loss = pretraining_loss(model, video, mask)
    limit = case["tolerance"].get("loss", 1e-5)
    for want in losses_of(case, tensors):
        assert abs(loss.item() - want) <= limit
    loss.backward()
    assert_gradients(model, case, tensors)
    model.norm_targets = False
    raw = pretraining_loss(model, video, mask)
    assert abs(raw - tensors.get("loss_unnormalised_target", raw)) <= limit


def test_golden_videomae_pretrain_module_of_the_recipe(golden):
    case, tensors, model = load(golden)
    batch = {"video": tensors["video"].float().transpose(1, 2), "mask": tensors["mask"]}
    for further in ({}, {"decoded": tensors["mask"]}):  # all that is hidden, said and not said
        model.zero_grad()
        loss = pretraining_loss(model, **batch, **further)
        for want in losses_of(case, tensors):
            assert abs(loss.item() - want) <= case["tolerance"].get("loss", 1e-5)
        loss.backward()
        assert_gradients(model, case, tensors)


def test_golden_videomae_pretrain_mask_is_a_tube(golden):
    case, tensors, _ = load(golden)
    config = case["config"]
    side = config["img_size"] // config["patch_size"]
    drawn = tube_mask(
        (config["frames"], side, side), config["mask_ratio"], torch.Generator().manual_seed(0), batch=2
    )
    for mask in (tensors["mask"], drawn):
        frames = mask.view(len(mask), config["frames"], config["patches_per_frame"])
        assert (frames == frames[:, :1]).all()
        assert (frames.sum(-1) == config["masked_per_frame"]).all()
