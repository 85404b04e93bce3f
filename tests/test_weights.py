"""Weight files: what is read, what is refused, and what the refusal says."""

import hashlib
import os
import pickle
import struct
import sys
from argparse import Namespace
from collections import defaultdict
from pathlib import Path
from types import ModuleType, SimpleNamespace
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
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


@pytest.mark.parametrize(
    "name",
    [
        "module.model.a",
        "_orig_mod.model.a",
        "module._orig_mod.model.a",
        "_orig_mod.module.model.a",
        "module.module.model._orig_mod.a",
        "_fsdp_wrapped_module.model._checkpoint_wrapped_module.a",
    ],
)
def test_what_wrappers_put_into_names_is_taken_off(tmp_path, name):
    torch.save({"state_dict": {name: torch.ones(1)}}, tmp_path / "w.pth")
    assert list(read_state(tmp_path / "w.pth")) == ["model.a"]


def test_a_tensor_with_and_without_a_wrapper_is_refused(tmp_path):
    save_state({"_orig_mod.a": torch.ones(1), "a": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="twice"):
        read_state(tmp_path / "w.safetensors")


def test_numbers_and_settings_beside_the_weights_do_no_harm(tmp_path):
    beside = {
        "best": np.float64(0.5),
        "epoch": np.int64(3),
        "curve": np.arange(3.0),
        "args": Namespace(lr=1, output=Path("x")),
        "more": SimpleNamespace(history=defaultdict(list, loss=[0.5])),
    }
    torch.save({"model": {"a": torch.ones(1)}, **beside}, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth").keys() == {"a"}


def test_settings_in_dicts_of_other_packages_do_no_harm(tmp_path, monkeypatch):
    easydict = ModuleType("easydict")
    easydict.EasyDict = type("EasyDict", (dict,), {"__module__": "easydict"})
    settings = easydict.EasyDict(lr=0.1)
    settings.lr = 0.1
    monkeypatch.setitem(sys.modules, "easydict", easydict)
    torch.save({"model": {"a": torch.ones(1)}, "config": settings}, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth").keys() == {"a"}


def test_the_teacher_is_taken_of_a_file_that_holds_both(tmp_path):
    both = {"student": {"a": torch.zeros(1)}, "teacher": {"a": torch.ones(1)}, "epoch": 3}
    torch.save(both, tmp_path / "w.pth")
    assert read_state(tmp_path / "w.pth")["a"] == 1


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"model": {"a": torch.ones(1)}, "hook": RunsCode()}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth: refused.*mkdir.*safetensors"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_truncated_files_are_named(tmp_path, name, keep):
    path, state = tmp_path / name, {"a": torch.randn(500)}
    torch.save(state, path) if name.endswith("pth") else save_state(state, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else keep])
    with pytest.raises(WeightsError, match=name):
        read_state(path)


def test_an_old_file_that_is_cut_off_anywhere_is_said_to_be_damaged(tmp_path):
    path = tmp_path / "w.pth"
    torch.save({"a": torch.randn(5), "b.c": torch.ones(2)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert read_state(path).keys() == {"a", "b.c"}
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"w\.pth: .*(cut off|truncated).*Fetch it again") as error:
            read_state(path)
        assert "run code" not in str(error.value)


def test_an_old_file_that_would_run_code_is_refused_as_such(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"hook": RunsCode()}, tmp_path / "w.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"w\.pth: refused.*mkdir"):
        read_state(tmp_path / "w.pth")
    (tmp_path / "w.pth").write_bytes(pickle.dumps(RunsCode(), 2) + b"more")
    with pytest.raises(WeightsError, match=r"w\.pth: refused.*mkdir"):
        read_state(tmp_path / "w.pth")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [[1, 2], {}, {"epoch": 1, "a": torch.ones(1)}])
def test_files_without_a_state_dict_are_refused(tmp_path, content):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth.*expected tensors by name"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"<!DOCTYPE html><html>not found</html>", "web page"),
        (b"\n<html>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4\n", "git lfs pull"),
        (b"", "empty"),
        (b"\x1f\x8b\x08\x00rest", "gzip"),
        (b"\xff" * 64, "w[.]"),
        (struct.pack("<Q", 2**60) + b"{}", "w[.]"),
        (struct.pack("<Q", 2) + b"{}", "w[.]"),
        (
            struct.pack("<Q", 80) + b'{"a":{"dtype":"F32","shape":[9999],"data_offsets":[0,4]}}'.ljust(84),
            "w[.]",
        ),
    ],
)
def test_what_is_no_weights_file_is_said_in_one_line(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match=words) as error:
        read_state(tmp_path / name)
    assert "\n" not in str(error.value)


def test_formats_are_told_apart_by_content(tmp_path):
    save_state({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    (tmp_path / "w.safetensors").rename(tmp_path / "w.bin")
    assert read_state(tmp_path / "w.bin").keys() == {"a"}
    torch.save({"a": torch.ones(1)}, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="PyTorch file by its content"):
        read_state(tmp_path / "w.safetensors")


def test_a_zip_that_unpacks_to_more_than_it_is_is_refused(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "w.pth")
    with ZipFile(tmp_path / "w.pth", "a", ZIP_DEFLATED) as archive:
        archive.writestr("w/data/1", bytes(10**6))
    with pytest.raises(WeightsError, match="larger than the file"):
        read_state(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "value",
    [torch.ones(1).expand(10**12), torch.eye(2).to_sparse(), torch.empty(3, device="meta")],
    ids=["expanded", "sparse", "meta"],
)
def test_tensors_that_are_not_plain_are_refused(tmp_path, value):
    torch.save({"a": value}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=r"w\.pth"):
        read_state(tmp_path / "w.pth")


def test_a_folder_and_what_is_no_regular_file_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    (tmp_path / "none").mkdir()
    for name, words in {"pipe.pth": "not a regular file", "none": "folder without"}.items():
        with pytest.raises(WeightsError, match=words):
            read_state(tmp_path / name)
        with pytest.raises(WeightsError, match=words):
            resolve_weights(str(tmp_path / name), tmp_path)
    with pytest.raises(WeightsError, match="no such file"):
        resolve_weights("x" * 300, tmp_path)


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


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (torch.tensor([1, float("nan")]), "1 not finite"),
        (torch.tensor([1, 2]), "of another kind of number"),
        (torch.tensor([1j, 2]), "of another kind of number"),
    ],
)
def test_values_that_no_weights_have_are_refused(tmp_path, value, words):
    with pytest.raises(WeightsError, match=words):
        load_strict(nn.Linear(3, 2), {"weight": torch.ones(2, 3), "bias": value}, tmp_path / "w.pth")


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
