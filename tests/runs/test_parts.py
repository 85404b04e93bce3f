"""Random draws, digests of weights and folders of official checkpoints."""

import pytest
import torch
from torch import nn

from ovvol_bench.errors import SettingError, WeightsError
from ovvol_bench.pipeline import clip_generator
from ovvol_bench.runs.plan import OFFICIAL_FILES, pick_device, weights_digest, weights_from


def draw(*key):
    return torch.randn(4, generator=clip_generator(*key)).tolist()


def test_draws_depend_on_seed_clip_and_component_alone():
    draws = [draw(0, "a", "cut"), draw(1, "a", "cut"), draw(0, "b", "cut"), draw(0, "a", "other")]
    assert len({tuple(each) for each in draws}) == 4
    torch.randn(3)
    assert draw(0, "a", "cut") == draws[0]


def test_digest_is_of_what_was_loaded():
    first, second = nn.Linear(2, 3), nn.Linear(2, 3)
    assert weights_digest(first) != weights_digest(second)
    second.load_state_dict(first.state_dict())
    assert weights_digest(first) == weights_digest(second)
    assert weights_digest(first) != weights_digest(first.bfloat16())


def test_digest_takes_scalars_and_nothing():
    module = nn.Module()
    assert weights_digest(module) is None
    module.register_buffer("scale", torch.tensor(2.0))
    assert len(weights_digest(module)) == 64


def test_official_files_become_settings(tmp_path):
    for name in OFFICIAL_FILES:
        (tmp_path / name).touch()
    settings = weights_from(tmp_path)
    assert settings["encoder"] == {"weights": str(tmp_path / "videomae.pth")}
    assert settings["labeler"] == {
        "weights": str(tmp_path / "pacl.pth"),
        "pretrained": str(tmp_path / "clip.pt"),
    }


def test_weights_of_ones_own_training_may_stand_in(tmp_path):
    for name in OFFICIAL_FILES:
        (tmp_path / name).touch()
    (tmp_path / "grouping.pth").rename(tmp_path / "grouping.safetensors")
    assert weights_from(tmp_path)["grouper"] == {"weights": str(tmp_path / "grouping.safetensors")}


def test_missing_official_files_are_listed(tmp_path):
    (tmp_path / "pacl.pth").touch()
    with pytest.raises(WeightsError, match=r"missing videomae\.pth, grouping\.pth, clip\.pt\. Expected"):
        weights_from(tmp_path)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_refused():
    assert pick_device("auto").type == "cpu"
    with pytest.raises(SettingError, match="no CUDA device"):
        pick_device("cuda")
