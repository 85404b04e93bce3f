"""Folders of the Hugging Face hub: their shards, and what an index may name."""

import json

import pytest
import torch

from ovvol_bench.errors import WeightsError
from ovvol_bench.nn.hub import stated_config
from ovvol_bench.weights import local_weights, read_metadata, read_state, resolve_weights, save_state


def sharded(folder, names):
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    return folder


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_whole_model(tmp_path, name):
    state = {"a": torch.ones(2)}
    save_state(state, tmp_path / name) if name.startswith("model") else torch.save(state, tmp_path / name)
    assert read_state(tmp_path).keys() == {"a"}
    assert local_weights(str(tmp_path)) == tmp_path == resolve_weights(str(tmp_path), tmp_path / "none")
    assert read_metadata(tmp_path) == {}


def test_shards_are_put_together_by_folder_and_by_index(tmp_path):
    save_state({"a": torch.ones(2)}, tmp_path / "model-00001-of-00002.safetensors")
    save_state({"b": torch.ones(3)}, tmp_path / "model-00002-of-00002.safetensors")
    sharded(tmp_path, {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})
    assert read_state(tmp_path).keys() == {"a", "b"}
    assert read_state(tmp_path / "model.safetensors.index.json").keys() == {"a", "b"}


def test_a_missing_shard_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"1 of 1 shards are missing \(gone\.safetensors\)"):
        read_state(sharded(tmp_path, {"a": "gone.safetensors"}))


@pytest.mark.parametrize(
    "name", ["../outside.safetensors", "/etc/passwd", "sub/x.bin", "..", "", "model.safetensors.index.json"]
)
def test_an_index_names_files_beside_it_and_no_others(tmp_path, name):
    save_state({"a": torch.ones(2)}, tmp_path / "outside.safetensors")
    with pytest.raises(WeightsError, match=r"index\.json: shards lie beside their index"):
        read_state(sharded(tmp_path / "folder", {"a": name}))


@pytest.mark.parametrize("text", ["[" * 100_000, "[]", "{", "\udcff", '{"weight_map": [1]}', "{}"])
def test_a_damaged_index_is_named(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text, errors="surrogateescape")
    with pytest.raises(WeightsError, match=r"index\.json"):
        read_state(tmp_path)


def test_the_configuration_goes_with_the_hubs_names_only(tmp_path):
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    assert stated_config(tmp_path) == stated_config(tmp_path / "model.safetensors") == {"hidden_size": 3}
    assert stated_config(tmp_path / "other.safetensors") == {}
