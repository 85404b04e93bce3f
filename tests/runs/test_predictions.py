import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from ovvol_bench.errors import DataError, OvvolError
from ovvol_bench.predictions import ClipPrediction, same_content
from ovvol_bench.runs.predictions import (
    PredictionWriter,
    broken_shards,
    read_predictions,
    to_parquet,
)
from ovvol_bench.types import ClipInfo, Localization


def prediction(index, *, seed=0, context=0):
    rng = np.random.default_rng([seed, index])
    frames, segments, slots = 4, index % 3, 6
    low = rng.uniform(0, 300, (frames, segments, 2))
    localization = Localization(
        boxes=np.concatenate([low, low + rng.uniform(0, 99, low.shape)], axis=-1).astype(np.float32),
        present=rng.random((frames, segments)) < 0.8,
        probabilities=rng.dirichlet(np.ones(5), segments).astype(np.float32).reshape(segments, 5),
        slot_map=rng.integers(0, slots, (frames, 3, 5)).astype(np.int16),
        segment_of_slot=rng.integers(-1, max(segments, 1), slots).astype(np.int16),
        input_size=(48, 80),
    )
    indices = tuple(range(4 * index, 4 * index + frames))
    info = ClipInfo(f"straße/ü {index:03d}", f"video {index // 4}", indices, (240, 400), None, context)
    return ClipPrediction(info, (48, 80), localization)


CLIPS = [prediction(index) for index in range(9)]


def assert_equal(got, expected):
    got = list(got)
    assert [each.info.id for each in got] == [each.info.id for each in expected]
    assert all(same_content(one, other) for one, other in zip(got, expected, strict=True))


def test_clips_come_back_to_the_last_bit_in_a_fixed_order(tmp_path):
    writer = PredictionWriter(tmp_path / "made" / "for me")
    writer.write(CLIPS[6:][::-1])
    writer.write(CLIPS[:6])
    assert_equal(read_predictions(writer.folder), CLIPS)


def test_a_shard_is_named_by_its_content_whatever_the_order(tmp_path):
    one = PredictionWriter(tmp_path / "a").write(CLIPS)
    other = PredictionWriter(tmp_path / "b").write(CLIPS[::-1])
    assert one.name == other.name
    assert one.read_bytes() == other.read_bytes()
    assert one.name != PredictionWriter(tmp_path / "c").write(CLIPS[1:]).name


def test_a_new_writer_knows_what_is_done(tmp_path):
    writer = PredictionWriter(tmp_path)
    assert writer.done() == frozenset()
    writer.write(CLIPS[:2])
    writer.write(CLIPS[2:3])
    expected = {clip.info.id for clip in CLIPS[:3]}
    assert writer.done() == expected
    assert PredictionWriter(tmp_path).done() == expected


def test_clips_in_two_shards_count_once_if_equal(tmp_path):
    writer = PredictionWriter(tmp_path)
    writer.write(CLIPS[:5])
    writer.write(CLIPS[3:])
    assert_equal(read_predictions(tmp_path), CLIPS)


def with_soft(clip):
    frames, (rows, columns) = len(clip.localization.slot_map), clip.localization.slot_map.shape[1:]
    shares = np.random.default_rng(0).integers(0, 256, (frames, 6, rows, columns)).astype(np.uint8)
    return replace(clip, localization=replace(clip.localization, soft=shares))


@pytest.mark.parametrize("form", ["shards", "parquet"])
def test_soft_masks_come_back_where_they_were_kept(tmp_path, form):
    """Some clips have none, as where a run was continued with another option."""
    writer = PredictionWriter(tmp_path / "shards")
    writer.write(CLIPS[:4])
    soft = [with_soft(clip) for clip in CLIPS[4:]]
    writer.write(soft)
    assert writer.without_soft_masks() == 4
    path = tmp_path / "shards"
    if form == "parquet":
        path = tmp_path / "all.parquet"
        to_parquet(read_predictions(tmp_path / "shards"), path)
    got = list(read_predictions(path))
    assert_equal(got, CLIPS)
    assert all(each.localization.soft is None for each in got[:4])
    for one, other in zip(got[4:], soft, strict=True):
        np.testing.assert_array_equal(one.localization.soft, other.localization.soft)
    assert not len(read_predictions(path, masks=False).soft)


def test_shards_without_soft_masks_are_as_before(tmp_path):
    path = PredictionWriter(tmp_path).write(CLIPS)
    with safe_open(path, framework="np") as file:
        assert not {"soft", "soft_counts"} & set(file.keys())


@pytest.mark.parametrize("form", ["shards", "parquet"])
def test_masks_can_be_left_out(tmp_path, form):
    PredictionWriter(tmp_path / "shards").write(CLIPS)
    path = tmp_path / "shards"
    if form == "parquet":
        path = tmp_path / "all.parquet"
        to_parquet(read_predictions(tmp_path / "shards"), path)
    got = read_predictions(path, masks=False)
    assert len(got.slot_map) == len(got.segment_of_slot) == 0
    for one, other in zip(got, CLIPS, strict=True):
        assert one.info == replace(other.info, truth=None)
        np.testing.assert_array_equal(one.localization.boxes, other.localization.boxes)
        np.testing.assert_array_equal(one.localization.probabilities, other.localization.probabilities)


def test_contradicting_shards_are_refused(tmp_path):
    writer = PredictionWriter(tmp_path)
    writer.write(CLIPS[:2])
    writer.write([prediction(1, seed=7)])
    with pytest.raises(DataError, match="'straße/ü 001' was predicted twice"):
        read_predictions(tmp_path)


def test_truth_and_context_are_not_stored(tmp_path):
    clip = prediction(1, context=3)
    writer = PredictionWriter(tmp_path)
    writer.write([replace(clip, info=replace(clip.info, truth=()))])
    (got,) = read_predictions(tmp_path)
    assert got.info.truth is None
    assert got.info.frame_indices == (7,)
    np.testing.assert_array_equal(got.localization.boxes, clip.localization.boxes[3:])


@pytest.mark.parametrize("kept", [0, 4, 100, -1])
def test_truncated_shards_are_found_and_set_aside_on_resume(tmp_path, kept):
    writer = PredictionWriter(tmp_path)
    writer.write(CLIPS[:2])
    bad = writer.write(CLIPS[2:])
    bad.write_bytes(bad.read_bytes()[:kept])
    assert broken_shards(tmp_path) == [bad]
    with pytest.raises(DataError, match="damaged or no predictions file"):
        read_predictions(tmp_path)
    resumed = PredictionWriter(tmp_path)
    assert [path.name for path in resumed.set_aside] == [f"{bad.name}.broken"]
    assert resumed.done() == {clip.info.id for clip in CLIPS[:2]}
    resumed.write(CLIPS[2:])
    assert_equal(read_predictions(tmp_path), CLIPS)


def test_other_safetensors_files_are_refused(tmp_path):
    save_file({"weight": np.zeros(3, np.float32)}, tmp_path / "weights.safetensors")
    with pytest.raises(DataError, match="expected predictions of schema 1, found another kind of file"):
        read_predictions(tmp_path / "weights.safetensors")


def test_nothing_to_read(tmp_path):
    with pytest.raises(DataError, match="no predictions; expected a folder"):
        read_predictions(tmp_path)
    with pytest.raises(DataError, match="nowhere"):
        read_predictions(tmp_path / "nowhere.safetensors")
    with pytest.raises(DataError, match="nowhere"):
        read_predictions(tmp_path / "nowhere.parquet")


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    writer = PredictionWriter(tmp_path)

    def full_disk(path, content):
        path.open("wb").write(content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(OvvolError, match="No space"):
        writer.write(CLIPS)
    assert list(tmp_path.iterdir()) == []
    assert writer.done() == frozenset()


def test_parquet_holds_the_same(tmp_path):
    PredictionWriter(tmp_path).write(CLIPS)
    to_parquet(read_predictions(tmp_path), tmp_path / "all.parquet")
    assert_equal(read_predictions(tmp_path / "all.parquet"), CLIPS)


def test_other_parquet_files_are_refused(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="not a parquet file of predictions"):
        read_predictions(tmp_path / "x.parquet")


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path):
    path = PredictionWriter(tmp_path).write(CLIPS)
    whole = path.read_bytes()
    for place in range(0, len(whole), len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DataError, match=path.name):
            read_predictions(tmp_path)
        assert broken_shards(tmp_path) == [path]


def test_a_flipped_bit_in_parquet_is_found(tmp_path):
    PredictionWriter(tmp_path / "shards").write(CLIPS)
    path = tmp_path / "all.parquet"
    to_parquet(read_predictions(tmp_path / "shards"), path)
    whole = path.read_bytes()
    for place in range(30, len(whole) // 2, len(whole) // 40):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        try:
            found = read_predictions(path)
        except DataError as error:
            assert str(path) in str(error)
        else:
            assert_equal(found, CLIPS)


@pytest.mark.parametrize("header", ["[]", '{"schema": 1}', '{"schema": 1, "clip_ids": 3, "videos": []}', "{"])
def test_a_file_with_a_strange_header_is_one_line(tmp_path, header):
    path = tmp_path / "renamed.safetensors"
    save_file({"boxes": np.zeros(3, np.float32)}, path, {"ovvol_bench_predictions": header})
    with pytest.raises(DataError, match="renamed"):
        read_predictions(path)


def test_pipes_and_folders_named_as_shards_are_set_aside(tmp_path):
    PredictionWriter(tmp_path).write(CLIPS)
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "folder.safetensors").mkdir()
    with pytest.raises(DataError, match="folder"):
        read_predictions(tmp_path)
    assert len(PredictionWriter(tmp_path).set_aside) == 2
    assert_equal(read_predictions(tmp_path), CLIPS)
