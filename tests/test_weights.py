"""Weight files: what is read, what is refused, and what the refusal says."""

import hashlib
import os
from argparse import Namespace

import pytest
import torch
from torch import nn

from ovvol_bench.errors import WeightsError
from ovvol_bench.weights import (
    load_strict,
    read_metadata,
    read_state,
    resolve_weights,
    save_state,
    sha256_of,
)


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("was_run",))


@pytest.mark.parametrize("wrapper", ["model", "module", "state_dict", None])
def test_wrapped_and_bare_state_dicts_read_the_same(tmp_path, wrapper):
    state = {"a.weight": torch.ones(2), "b": torch.zeros(3)}
    path = tmp_path / "w.pth"
    torch.save({wrapper: state, "epoch": 3, "args": Namespace(lr=0.1)} if wrapper else state, path)
    assert read_state(path).keys() == state.keys()


def test_the_prefix_of_distributed_training_is_taken_off(tmp_path):
    torch.save({"state_dict": {"module.model.a": torch.ones(1)}}, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth")) == ["model.a"]


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.ones(1)}, "hook": RunsCode()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: refused.*mkdir.*safetensors"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.filterwarnings("ignore")
def test_a_program_is_refused_with_the_way_out(tmp_path):
    torch.jit.script(nn.Linear(1, 1)).save(tmp_path / "clip.pt")
    with pytest.raises(WeightsError, match=r"TorchScript.*state_dict"):
        read_state(tmp_path / "clip.pt")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_files_are_named(tmp_path, name, keep):
    path, state = tmp_path / name, {"a": torch.randn(500)}
    torch.save(state, path) if name.endswith("pth") else save_state(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(WeightsError, match=name):
        read_state(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 1, "a": torch.ones(1)}])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth.*expected tensors by name"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("read", [read_state, read_metadata, sha256_of])
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(WeightsError, match=r"none\.pth: no such"):
        read(tmp_path / "none.pth")


def test_float16_files_fill_float32_models(tmp_path):
    source, target = nn.Linear(3, 2), nn.Linear(3, 2)
    save_state(source, tmp_path / "w.safetensors", {"what": "test"}, half=True)
    state = read_state(tmp_path / "w.safetensors")
    assert {value.dtype for value in state.values()} == {torch.float16}
    load_strict(target, state, tmp_path / "w.safetensors")
    assert target.weight.dtype == torch.float32
    assert torch.equal(target.weight, source.weight.half().float())
    assert read_metadata(tmp_path / "w.safetensors") == {"what": "test"}


def test_what_float16_cannot_hold_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"big.*float16"):
        save_state({"big": torch.tensor([1e6])}, tmp_path / "w.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


def test_views_and_shared_tensors_are_saved_as_their_values(tmp_path):
    table = torch.randn(4, 6)
    save_state({"part": table[:, ::2], "whole": table, "again": table}, tmp_path / "w.safetensors")
    state = read_state(tmp_path / "w.safetensors")
    assert torch.equal(state["part"], table[:, ::2])
    assert torch.equal(state["again"], table)


def test_a_misfit_lists_every_kind_and_changes_nothing(tmp_path):
    model = nn.Linear(3, 2)
    before = model.bias.clone()
    state = {"weight": torch.ones(2, 4), "bias": torch.ones(2), "extra": torch.ones(1)}
    with pytest.raises(WeightsError) as error:
        load_strict(model, state, tmp_path / "w.pth")
    for part in ("w.pth", "Linear", "1 unexpected in the file (extra)", "(2, 4) in the file, (2, 3) in the"):
        assert part in str(error.value)
    with pytest.raises(WeightsError, match=r"1 missing from the file \(bias\)"):
        load_strict(model, {"weight": torch.ones(2, 3)}, tmp_path / "w.pth")
    assert torch.equal(model.bias, before)


def test_long_lists_are_cut_and_counted(tmp_path):
    state = {f"x{i}": torch.ones(1) for i in range(9)}
    with pytest.raises(WeightsError, match=r"9 unexpected in the file \(x0, x1, x2, x3, x4 and 4 more\)"):
        load_strict(nn.Identity(), state, tmp_path / "w.pth")


def test_known_names_can_be_left_out(tmp_path):
    state = {**nn.Linear(3, 2).state_dict(), "head.weight": torch.ones(1), "head.bias": torch.ones(1)}
    load_strict(nn.Linear(3, 2), state, tmp_path / "w.pth", ignored=["head.*"])


def test_digest_is_of_the_content(tmp_path):
    (tmp_path / "w").write_bytes(b"abc")
    assert sha256_of(tmp_path / "w") == hashlib.sha256(b"abc").hexdigest()


def test_weights_are_found_by_path_and_by_name(tmp_path):
    bundled = tmp_path / "weights"
    save_state({"a": torch.ones(1)}, bundled / "shapes.safetensors")
    assert resolve_weights("shapes", bundled) == bundled / "shapes.safetensors"
    given = bundled / "shapes.safetensors"
    assert resolve_weights(str(given), tmp_path / "none") == given
    with pytest.raises(WeightsError, match=r"'shape'.*these do: shapes.*Did you mean 'shapes'"):
        resolve_weights("shape", bundled)
    with pytest.raises(WeightsError, match="none"):
        resolve_weights("../weights/shapes", tmp_path / "none")
