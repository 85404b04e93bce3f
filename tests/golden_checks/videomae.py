"""Case a: the frozen video encoder."""

import json

import torch
from ovvol_plugins.videomae.model import VideoMAE, VideoMAESettings
from safetensors.torch import load_file


def assert_near(found, want, tolerance):
    limit = min(tolerance["abs"], tolerance.get("cpu_float32_abs", tolerance["abs"]))
    torch.testing.assert_close(found.float(), want.float(), atol=limit, rtol=tolerance["rel"])


def golden_encoder(folder, case, **settings):
    config = case["config"]
    encoder = VideoMAE(
        VideoMAESettings(
            patch_size=config["patch_size"],
            tubelet_size=config["tubelet_size"],
            dim=config["embed_dim"],
            depth=config["depth"],
            heads=config["num_heads"],
            mlp_ratio=config["mlp_ratio"],
            position_frames=config["pos_table_grid"][0] * config["tubelet_size"],
            position_grid=config["pos_table_grid"][1],
            **settings,
        )
    )
    encoder.load_weights(folder / case["files"]["weights"])
    return encoder.eval()


@torch.no_grad()
def test_golden_videomae_forward(golden):
    case = json.loads((golden / "videomae.json").read_text())
    tensors = load_file(golden / case["files"]["tensors"])
    encoder = golden_encoder(golden, case)
    for item in case["cases"]:
        i = item["index"]
        video = tensors[f"input_{i}"].float().transpose(1, 2)
        embedded = encoder.embed(video)
        tokens = embedded.flatten(1, 3)
        assert_near(tokens, tensors[f"tokens_with_pos_{i}"], case["tolerance"])
        assert_near(encoder.blocks[0](tokens), tensors[f"after_block0_{i}"], case["tolerance"])
        positions = tokens - encoder.patch_embed(video).flatten(1, 3)
        assert_near(positions[0], tensors[f"pos_embed_{i}"], case["tolerance"])
        grid = encoder.encode(video).grid
        assert grid.shape[:4] == (item["batch"], item["frames"], item["height"] // 16, item["width"] // 16)
        assert grid.shape[1] * grid.shape[2] * grid.shape[3] == item["tokens"]
        assert_near(grid.flatten(1, 3), tensors[f"output_{i}"], case["tolerance"])


def test_golden_videomae_position_table(golden):
    case = json.loads((golden / "videomae.json").read_text())
    rows = load_file(golden / case["files"]["tensors"])["pos_table_rows"]
    table = golden_encoder(golden, case).positions.flatten(0, 2)
    assert_near(table[case["pos_table_rows_index"]], rows, case["tolerance"])


def test_golden_videomae_final_norm_is_not_part_of_the_encoder(golden):
    case = json.loads((golden / "videomae.json").read_text())
    names = golden_encoder(golden, case).state_dict()
    assert not set(case["loaded_but_never_applied"]) & set(names)
    assert set(case["loaded_but_never_applied"]) <= set(
        golden_encoder(golden, case, final_norm=True).state_dict()
    )
    assert not set(case["checkpoint_keys_not_loaded_into_encoder"]) & set(names)
