"""Absurd numbers in settings are refused in one line, before memory is taken."""

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.registry import load_registry
from ovvol_bench.registry.annotations import check_fits

HUGE_CLIP = {
    "model": "custom",
    "pretrained": None,
    "embed_dim": 8,
    "patch_size": 1,
    "image_size": 4096,
    "width": 65536,
    "layers": 1000,
    "heads": 1,
    "text_width": 8,
    "text_layers": 1,
    "text_heads": 1,
}


@pytest.fixture(scope="module")
def registry():
    return load_registry()


@pytest.mark.parametrize(
    ("kind", "name", "setting", "value"),
    [
        ("grouper", "grid", "rows", "999999999999"),
        ("grouper", "grid", "columns", "5000"),
        ("grouper", "kmeans", "num_slots", "1000000000"),
        ("grouper", "slot_attention", "num_slots", "1000000000"),
        ("grouper", "slot_attention", "slot_dim", "10000000"),
        ("encoder", "pixels", "patch_size", "100000"),
        ("encoder", "videomae", "dim", "10000000"),
        ("encoder", "videomae", "position_grid", "1000000"),
        ("encoder", "videomae", "depth", "100000"),
        ("encoder", "random", "dim", "10000000"),
        ("encoder", "dino", "dim", "10000000"),
        ("labeler", "pacl", "image_size", "1000000"),
        ("labeler", "pacl", "text_width", "1000000"),
        ("labeler", "oracle", "num_classes", "1000000000"),
    ],
)
def test_a_number_far_too_large_is_refused_by_name(registry, kind, name, setting, value):
    with pytest.raises(
        SettingError, match=rf"setting '{setting}' can't be '{value}': .* 1 <= int <= \d+( [|] None)?"
    ):
        registry.resolve(kind, name, {setting: value})


@pytest.mark.parametrize(
    ("kind", "name", "options", "named"),
    [
        ("grouper", "grid", {"rows": 100, "columns": 100}, "rows=100 x columns=100"),
        ("encoder", "videomae", {"dim": 65532, "depth": 1000}, "dim=65532, depth=1000"),
        ("encoder", "videomae", {"position_grid": 1024, "position_frames": 1024, "dim": 65532}, "grid=1024"),
        ("grouper", "slot_attention", {"decoder_dim": 65536, "decoder_layers": 1000}, "decoder_dim=65536"),
        ("labeler", "pacl", HUGE_CLIP, "width=65536, layers=1000"),
    ],
)
def test_numbers_that_are_too_large_together_are_refused_by_name(registry, kind, name, options, named):
    with pytest.raises(SettingError, match=named):
        registry.build(kind, name, options)


def test_what_does_not_fit_says_how_much_it_is():
    check_fits("net: dim=8", 1000)
    with pytest.raises(SettingError, match=r"net: dim=8: takes 4,000,000,000 GB; this machine has \d+"):
        check_fits("net: dim=8", 10**18)
