"""TorchScript archives: their tensors are read, and nothing in them runs."""

import os
import pickle
import struct
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch
from torch import nn

from ovvol_bench.errors import WeightsError
from ovvol_bench.weights import read_state

pytestmark = pytest.mark.filterwarnings("ignore")


class RunsCode:
    def __reduce__(self):
        return (os.mkdir, ("was_run",))


class Tower(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4))
        self.scale = nn.Parameter(torch.randn(()))
        self.register_buffer("input_resolution", torch.tensor(224))
        self.sizes = [1, 2]

    def forward(self, image):
        return self.blocks(image) * self.scale


@pytest.fixture
def archive(tmp_path):
    torch.jit.save(
        torch.jit.trace(Tower().half().float().eval(), torch.zeros(1, 3, 4, 4)), tmp_path / "clip.pt"
    )
    return tmp_path / "clip.pt"


def rewritten(archive, content, compression=0):
    """The same archive with another tree of modules."""
    with ZipFile(archive) as old:
        records = {name: old.read(name) for name in old.namelist()}
    with ZipFile(archive, "w", compression) as new:
        for name, record in records.items():
            new.writestr(name, content if name == "clip/data.pkl" else record)
    return archive


@pytest.mark.parametrize(
    "compile_module", [torch.jit.script, lambda m: torch.jit.trace(m, torch.zeros(1, 3, 4, 4))]
)
def test_its_tensors_are_those_that_loading_it_would_give(tmp_path, compile_module):
    torch.jit.save(compile_module(Tower().half().float().eval()), tmp_path / "clip.pt")
    want, found = torch.jit.load(tmp_path / "clip.pt").state_dict(), read_state(tmp_path / "clip.pt")
    assert found.keys() == want.keys()
    assert all(
        torch.equal(found[name], want[name]) and found[name].dtype == want[name].dtype for name in want
    )


def test_a_tree_that_would_run_code_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match=r"clip\.pt: refused: it names \w+\.mkdir.*state_dict"):
        read_state(rewritten(archive, pickle.dumps(RunsCode(), 2)))
    assert not (tmp_path / "was_run").exists()


HEAD = b"\x80\x02c__torch__\nM\n)\x81q\x00}"
MADE_UP = {
    "itself": HEAD + b"X\x01\x00\x00\x00ah\x00sb.",
    "no module": b"\x80\x02]q\x00.",
    "cut off": HEAD,
    "memory": HEAD + b"r" + struct.pack("<I", 2**32 - 1) + b"b.",
    "attribute of torch": b"\x80\x02ctorch\nload\nq\x00.",
    "state for a class": b"\x80\x02c__torch__\nM\n}X\x01\x00\x00\x00aK\x01sb.",
}


@pytest.mark.parametrize("content", MADE_UP.values(), ids=MADE_UP)
def test_made_up_trees_are_refused_in_one_line(archive, content):
    with pytest.raises(WeightsError, match=r"clip\.pt: refused") as error:
        read_state(rewritten(archive, content))
    assert "\n" not in str(error.value)


def test_compressed_records_are_refused(archive):
    with ZipFile(archive) as old:
        content = old.read("clip/data.pkl")
    with pytest.raises(WeightsError, match="compressed"):
        read_state(rewritten(archive, content, ZIP_DEFLATED))


@pytest.mark.parametrize("size", ["K\x09", "J\xff\xff\xff\x7f"])
def test_tensors_larger_than_what_is_stored_are_refused(archive, size):
    view = (
        b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x01tQK\x00"
        + size.encode("latin1")
        + b"\x85K\x00\x85\x89}tR"
    )
    with pytest.raises(WeightsError, match="refused"):
        read_state(rewritten(archive, HEAD + b"X\x01\x00\x00\x00a" + view + b"sb."))
