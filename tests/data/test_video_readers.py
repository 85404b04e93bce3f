from __future__ import annotations

import os
import random
import struct
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from ovvol_bench.data.base import IncompleteClipError
from ovvol_bench.data.decoders import BACKENDS, PyAVReader
from ovvol_bench.data.loading import prefetch
from ovvol_bench.data.video import Decoder, probe_video
from ovvol_bench.data.videos import VideoFiles
from ovvol_bench.errors import DecodeError

COUNT, HEIGHT, WIDTH = 14, 64, 80
MATRIX = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)


def scene(index: int, width: int = WIDTH) -> np.ndarray:
    """A frame that nothing leaves as it is: other colours in each corner, and a square that moves."""
    corners = np.array([[[200, 40, 40], [40, 200, 40]], [[40, 40, 200], [220, 220, 60]]], np.uint8)
    frame = cv2.resize(corners, (width, HEIGHT), interpolation=cv2.INTER_LINEAR)
    frame[20:34, 4 * index % (width - 14) :][:, :14] = (15 * index, 255 - 15 * index, 128)
    return frame


def write(
    path: Path, codec: str = "libx264", pixels: str = "yuv420p", width: int = WIDTH, **options: str
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = width, HEIGHT, pixels
        for index in range(COUNT):
            frame = av.VideoFrame.from_ndarray(scene(index, width), format="rgb24")
            container.mux(stream.encode(frame.reformat(format=pixels)))
        container.mux(stream.encode(None))
    return path


def patch(path: Path, old: bytes, new: bytes) -> Path:
    content = path.read_bytes()
    assert content.count(old) >= 1
    path.write_bytes(content.replace(old, new))
    return path


def turned(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Give a track a display matrix, in the only place where one is: that of the movie comes first."""
    content = path.read_bytes()
    place = content.index(MATRIX, content.index(b"tkhd"))
    matrix = struct.pack(">9i", *(v << 16 for v in (a, b)), 0, *(v << 16 for v in (c, d)), 0, 0, 0, 1 << 30)
    path.write_bytes(content[:place] + matrix + content[place + len(MATRIX) :])
    return path


def seen(path: Path, backend: str = "auto") -> np.ndarray:
    decoder = Decoder()
    for name in sorted(BACKENDS, key=lambda name: name != backend):
        try:
            probe = decoder.probe(name, path)
        except Exception:  # as a helper process reports it
            continue
        return decoder.stored(probe, path, range(probe.frame_count))
    raise AssertionError(f"no reader for {path}")


KINDS = {
    "h264.mp4": {"bf": "2"},
    "h264.mts": {},
    "h264.3gp": {},
    "h264.h264": {},
    "av1.mp4": {"codec": "libsvtav1", "crf": "20"},
    "av1.webm": {"codec": "libsvtav1", "crf": "20"},
    "vp8.webm": {"codec": "libvpx", "b": "2M", "auto-alt-ref": "1", "lag-in-frames": "8"},
    "vp9.mkv": {"codec": "libvpx-vp9", "b": "2M"},
    "hevc.mp4": {"codec": "libx265", "x265-params": "log-level=none:pools=1"},
    "mpeg4.avi": {"codec": "mpeg4", "bf": "2", "qscale": "2"},
    "mpeg2.mpg": {"codec": "mpeg2video", "b": "2M"},
    "mpeg2.vob": {"codec": "mpeg2video", "b": "2M", "flags": "+ildct+ilme"},
    "mjpeg.mov": {"codec": "mjpeg", "pixels": "yuvj420p"},
    "ffv1.mkv": {"codec": "ffv1"},
    "wmv2.wmv": {"codec": "wmv2", "b": "2M"},
    "flv1.flv": {"codec": "flv", "b": "2M"},
    "gif.gif": {"codec": "gif", "pixels": "rgb8"},
    "width48.mp4": {"width": 48},
}


@pytest.mark.parametrize("name", KINDS)
def test_readers_agree_frame_by_frame(tmp_path, name):
    path = write(tmp_path / name, **KINDS[name])
    width = KINDS[name].get("width", WIDTH)
    expected = np.stack([scene(i, width) for i in range(COUNT)]).astype(int)
    for backend in BACKENDS:
        frames = seen(path, backend)
        assert frames.shape == (COUNT, HEIGHT, width, 3)
        assert np.abs(frames - expected).mean((1, 2, 3)).max() < (40 if name == "gif.gif" else 8), backend


@pytest.mark.parametrize("name", ["h264.mp4", "vp8.webm", "mpeg4.avi", "h264.h264"])
def test_frames_are_the_same_in_any_order(tmp_path, name):
    reader = PyAVReader(write(tmp_path / name, **{**KINDS[name], "g": "5"}))
    one_by_one = [reader.image(index) for index in range(COUNT)]
    order = random.Random(0).sample(range(COUNT), COUNT)
    assert all(np.array_equal(reader.image(index), one_by_one[index]) for index in order)


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
        ((0, -1, 1, 0), np.rot90),
        ((-1, 0, 0, -1), lambda frame: frame[::-1, ::-1]),
        ((-1, 0, 0, 1), lambda frame: frame[:, ::-1]),
        ((1, 0, 0, -1), lambda frame: frame[::-1]),
        ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda frame: frame[::-1, ::-1].transpose(1, 0, 2)),
    ],
)
def test_frames_are_turned_and_mirrored_as_a_player_shows_them(tmp_path, matrix, shown):
    path = turned(write(tmp_path / "a.mp4"), *matrix)
    expected = np.stack([shown(scene(index)) for index in range(COUNT)]).astype(int)
    for backend in BACKENDS:
        frames = seen(path, backend)
        assert frames.shape == expected.shape
        assert np.abs(frames - expected).mean() < 8, backend
    height, width = expected.shape[1:3]
    assert PyAVReader(path, (2 * height, width)).image(0).shape == (2 * height, width, 3)


def test_frames_that_an_edit_list_hides_are_no_frames(tmp_path):
    path = write(tmp_path / "a.mp4", bf="0")
    content = path.read_bytes()
    place = content.index(b"elst") + 12  # after version, flags and the count of one entry
    (duration, start) = struct.unpack(">Ii", content[place : place + 8])
    per_frame = struct.unpack(">I", content[content.index(b"stts") + 16 :][:4])[0]
    edited = struct.pack(">Ii", duration * (COUNT - 4) // COUNT, start + 4 * per_frame)
    path.write_bytes(content[:place] + edited + content[place + 8 :])
    for backend in BACKENDS:
        frames = seen(path, backend)
        assert len(frames) == COUNT - 4
        assert np.abs(frames - np.stack([scene(4 + i) for i in range(COUNT - 4)]).astype(int)).mean() < 8


def test_a_reader_that_shows_other_frames_is_not_taken(tmp_path, caplog):
    path = turned(write(tmp_path / "a.mp4"), -1, 0, 0, 1)
    with pytest.raises(DecodeError, match="frame 0 isn't what a player shows"):
        Decoder().probe("decord", path)
    with pytest.raises(DecodeError, match=r"shape \(64, 48, 4\)"):
        Decoder().probe("decord", write(tmp_path / "b.mp4", width=48))
    assert probe_video(path, "decord").backend == "pyav"
    assert "a.mp4 is read by pyav (decord: DecodeError: frame 0 isn't what a player shows)" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"404 Not Found\n", "the file is a text that begins with '404 Not Found"),
        (b"ffconcat version 1.0\nfile secret.mp4\n", "the file is a text"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "the file is a text"),
    ],
)
def test_texts_are_no_videos_whatever_they_are_called(tmp_path, content, message):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(DecodeError, match=rf"a\.mp4 can't be decoded \({message}"):
        probe_video(tmp_path / "a.mp4")


def test_a_damaged_packet_costs_its_own_frames(tmp_path):
    path = write(tmp_path / "a.avi", "mjpeg", "yuvj420p")
    frames = path.read_bytes().split(b"00dc")
    broken = b"00dc".join([*frames[:6], frames[6][:4] + bytes(len(frames[6]) - 4), *frames[7:]])
    path.write_bytes(broken)
    shown = PyAVReader(path)
    places = range(shown.frame_count)
    assert len(places) in (COUNT - 1, COUNT)
    assert np.abs(shown.image(places[-1]).astype(int) - scene(COUNT - 1)).mean() < 8


def test_a_file_in_a_folder_whose_name_is_no_utf8_is_read(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    for backend in BACKENDS:
        assert len(seen(write(tmp_path / "a.mp4").replace(folder / "a.mp4"), backend)) == COUNT


def damaged(path: Path, packet: int) -> Path:
    """Overwrite the data of a packet, by its place in the file, with zeros."""
    with av.open(str(path)) as container:
        packets = [each for each in container.demux(video=0) if each.size]
        start, size = packets[packet].pos, packets[packet].size
    content = bytearray(path.read_bytes())
    content[start : start + size] = bytes(size)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("backend", ["decord", "pyav"])
@pytest.mark.parametrize("kind", ["h264.mp4", "mpeg4.avi", "mjpeg.avi"])
def test_a_damaged_packet_costs_one_frame_which_shows_its_neighbour(tmp_path, backend, kind):
    codec = {"h264.mp4": "libx264", "mpeg4.avi": "mpeg4", "mjpeg.avi": "mjpeg"}[kind]
    pixels = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = damaged(write(tmp_path / kind, codec, pixels, bf="0", g="7"), 5)
    probe = Decoder().probe("pyav", path)
    size = probe.frame_size
    frames, unread = Decoder().read_around(replace(probe, backend=backend), path, range(COUNT), size, None)
    assert unread == {5: "frame 5 can't be decoded"}
    assert np.array_equal(frames[5], frames[4])
    shown = [*range(5), *range(7, COUNT)]  # the sixth may lack what the fifth was to give it
    expected = np.stack([scene(index) for index in shown]) / 255
    assert np.abs(frames[shown] - expected).mean(axis=(1, 2, 3)).max() < 0.03
    later, unread = Decoder().read_around(probe, path, [5, 7, 8], size, None)
    assert (list(unread), np.array_equal(later[0], frames[7])) == ([0], True)


def test_a_clip_of_a_video_with_a_damaged_packet_is_given_with_the_error(tmp_path):
    path = damaged(write(tmp_path / "clip.mp4", bf="0", g="7"), 5)
    dataset = VideoFiles(path=path, frames_per_clip=7, short_side=32, cache=str(tmp_path / "cache"))
    (_, error), (_, whole) = prefetch(dataset, range(2))
    assert isinstance(error, IncompleteClipError)
    assert "clip.mp4: frame 5 can't be decoded" in str(error)
    assert list(error.clip.info.unread) == [5]
    assert np.array_equal(error.clip.frames[5], error.clip.frames[4])
    assert whole.info.unread == {}
