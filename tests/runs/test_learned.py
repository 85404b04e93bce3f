"""What weights learned from: kept in their header, held against what they are scored on."""

import pytest
import torch

from ovvol_bench.data.shapes.dataset import Shapes
from ovvol_bench.errors import WeightsError
from ovvol_bench.runs.learned import HEADER, KEPT, Learned, header_text, learned_by, video_hash, videos_seen
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.weights import noting_files, read_state, save_state


def learned(split, videos):
    data = Shapes(split, videos)
    return Learned.of(PartSpec("shapes", digest=data.fingerprint()), data)


def hashes(split, videos):
    data = Shapes(split, videos)
    return {video_hash("shapes", data.info(index).video) for index in range(len(data))}


def test_a_header_is_read_back(tmp_path):
    kept = (learned("train", 3), learned("val", 2))
    save_state({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {HEADER: header_text(kept)})
    with noting_files() as files:
        read_state(tmp_path / "w.safetensors")
    assert files == [tmp_path / "w.safetensors"]
    assert learned_by(files) == kept


def test_a_damaged_header_is_named(tmp_path):
    save_state({"a": torch.zeros(1)}, tmp_path / "w.safetensors", {HEADER: '[{"videos": 1}]'})
    with pytest.raises(WeightsError, match=r"w\.safetensors: what its header says it learned from"):
        learned_by([tmp_path / "w.safetensors"])


def test_videos_are_found_among_those_learned_from():
    assert videos_seen([learned("test", 30)], hashes("test", 50)) == 30
    assert videos_seen([learned("train", 30), learned("val", 30)], hashes("test", 50)) == 0


def test_of_many_videos_a_sample_is_kept():
    many = learned("train", 4 * KEPT)
    assert (many.videos, len(many.hashes)) == (4 * KEPT, KEPT)
    assert videos_seen([many], hashes("train", 400)) == pytest.approx(100, abs=40)


def test_what_a_part_has_seen_is_no_part_of_its_identity():
    assert PartSpec("a", seen=3).identity == PartSpec("a").identity


@pytest.mark.parametrize("kind", ["videomae", "slot_attention", "pacl"])
def test_the_weights_that_come_with_the_plugins_say_it(kind):
    from importlib import resources

    file = resources.files(f"ovvol_plugins.{kind}") / "weights/shapes.safetensors"
    found = learned_by([file])
    assert {each.dataset for each in found} == {"shapes"}
    assert videos_seen(found, hashes("train", 50)) and not videos_seen(found, hashes("test", 300))
