from __future__ import annotations

import io
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ovvol_bench.data.decoders import DecordReader, OpenCVReader
from ovvol_bench.data.imagenet_vid.prepare import Encoding, count_decoded, encode_mp4, read_mp4
from ovvol_bench.errors import DecodeError, SettingError

SIZE = (64, 96)


def moving_frames(count: int = 40, size: tuple[int, int] = SIZE) -> list[np.ndarray]:
    """A smooth colour field that drifts, so that every frame differs from its neighbours."""
    coarse = np.random.default_rng(0).integers(60, 200, (4, 8, 3), np.uint8)
    field = cv2.resize(coarse, (size[1] + 2 * count, size[0]), interpolation=cv2.INTER_LINEAR)
    return [np.ascontiguousarray(field[:, 2 * t : 2 * t + size[1]]) for t in range(count)]


@pytest.fixture(scope="module")
def movie(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("movie") / "a.mp4"
    path.write_bytes(encode_mp4(moving_frames(), SIZE, Encoding(32, 32, crf=10, gop=8)))
    return path


@pytest.mark.parametrize("reader", [DecordReader, OpenCVReader])
def test_readers_give_back_every_frame_nearly_as_it_was(movie, reader):
    video = reader(movie)
    assert (video.count(), video.frame_size) == (40, SIZE)
    pixels = reader(movie).read(range(40)) * 255
    assert np.abs(pixels - np.stack(moving_frames())).mean() < 4


def test_any_frame_read_alone_is_the_frame_read_in_order(movie):
    in_order = DecordReader(movie).read(range(40))
    video = DecordReader(movie)
    for index in np.random.default_rng(1).permutation(40).tolist():
        assert np.array_equal(video.read([index])[0], in_order[index])


def test_the_file_is_h264_with_key_frames_as_asked(movie):
    with av.open(str(movie)) as container:
        stream = container.streams.video[0]
        keys = [packet.is_keyframe for packet in container.demux(stream) if packet.size]
        codec = (stream.codec_context.name, stream.codec_context.pix_fmt, stream.average_rate)
    assert codec == ("h264", "yuv420p", 25)
    assert np.diff(np.flatnonzero(keys)).max() <= 8
    assert len(keys) == 40


def test_frames_are_scaled_without_shift():
    bars = np.zeros((128, 192, 3), np.uint8)
    bars[:, 96:] = 255
    movie = encode_mp4([bars] * 2, SIZE, Encoding(32, 32, crf=5))
    assert count_decoded(movie) == 2
    with av.open(io.BytesIO(movie)) as container:
        frame = next(container.decode(video=0)).to_ndarray(format="gray").astype(float)
    assert frame.shape == SIZE
    assert frame[:, :46].max() < 8 < 247 < frame[:, 50:].min()


def test_a_file_tells_count_size_and_settings(movie):
    assert read_mp4(movie) == (40, SIZE, "ovvol-bench short_side=32 multiple=32 crf=10 gop=8 fps=25")


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_what_is_no_video_is_named(tmp_path, content):
    path = tmp_path / "bad.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DecodeError, match=r"bad\.mp4"):
        read_mp4(path)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_file_that_is_cut_off_is_named(movie, tmp_path, share):
    path = tmp_path / "cut.mp4"
    whole = movie.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DecodeError, match=r"cut\.mp4"):
        read_mp4(path)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"multiple": 7}, "multiple=7"),
        ({"multiple": 0}, "multiple=0"),
        ({"short_side": 225}, "short_side=225"),
        ({"crf": 0}, "crf=0"),
        ({"crf": 52}, "crf=52"),
        ({"gop": 0}, "gop=0"),
        ({"fps": -1}, "fps=-1"),
    ],
)
def test_settings_out_of_range_are_named(settings, named):
    with pytest.raises(SettingError, match=named):
        Encoding(**settings)
