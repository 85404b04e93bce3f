"""Case a: the frozen video encoder."""

import torch
from golden_vectors import assert_near, load_case, load_tensors

from ovvol_plugins.videomae.model import VideoMAE
from ovvol_plugins.videomae.settings import VideoMAESettings


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
    case = load_case(golden, "videomae")
    tensors = load_tensors(golden, case)
    encoder = golden_encoder(golden, case)
    for item in case["cases"]:
        i = item["index"]
        video = tensors[f"input_{i}"].float().transpose(1, 2)
        embedded = encoder.embed(video)
        tokens = embedded.flatten(1, 3)
        assert_near(tokens, tensors.get(f"tokens_with_pos_{i}"), case["tolerance"])
        assert_near(encoder.blocks[0](tokens), tensors.get(f"after_block0_{i}"), case["tolerance"])
        positions = tokens - encoder.patch_embed(video).flatten(1, 3)
        assert_near(positions[0], tensors.get(f"pos_embed_{i}"), case["tolerance"])
        grid = encoder.encode(video).grid
        patch, tubelet = case["config"]["patch_size"], case["config"]["tubelet_size"]
        batch, frames, _, height, width = video.shape
        assert grid.shape[:4] == (batch, frames // tubelet, height // patch, width // patch)
        assert grid.shape[1] * grid.shape[2] * grid.shape[3] == item.get("tokens", tokens.shape[1])
        assert_near(grid.flatten(1, 3), tensors[f"output_{i}"], case["tolerance"])


def test_golden_videomae_position_table(golden):
    case = load_case(golden, "videomae")
    rows = load_tensors(golden, case).get("pos_table_rows")
    table = golden_encoder(golden, case).positions.flatten(0, 2)
    assert_near(table[case.get("pos_table_rows_index", [])], rows, case["tolerance"])


def test_golden_videomae_final_norm_is_not_part_of_the_encoder(golden):
    case = load_case(golden, "videomae")
    names = golden_encoder(golden, case).state_dict()
    unused = set(case.get("loaded_but_never_applied", ()))
    assert not unused & set(names)
    assert unused <= set(golden_encoder(golden, case, final_norm=True).state_dict())
    assert not set(case.get("checkpoint_keys_not_loaded_into_encoder", ())) & set(names)
