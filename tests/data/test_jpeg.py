from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ovvol_bench.data.readers import read_header, read_image
from ovvol_bench.errors import DecodeError


def encoded(suffix: str, size: tuple[int, int] = (48, 80)) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return cv2.imencode(suffix, pixels)[1].tobytes()


def stated(height: int, width: int) -> bytes:
    """A PNG of a few bytes that states a size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_cut_off_image_is_an_error_not_half_a_frame(tmp_path, suffix):
    file, content = tmp_path / f"a{suffix}", encoded(suffix)
    file.write_bytes(content + bytes(100))
    assert read_header(file).complete, "padded"
    assert read_image(file).shape == (48, 80, 3)
    file.write_bytes(content[: len(content) // 2])
    assert not read_header(file).complete
    with pytest.raises(DecodeError, match=rf"a\{suffix} is cut off"):
        read_image(file)


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 20_000), (1, 1 << 30), (0, 0)])
def test_a_stated_size_beyond_memory_is_refused_before_decoding(tmp_path, size):
    (tmp_path / "a.png").write_bytes(stated(*size))
    for read in (read_image, read_header):
        with pytest.raises(DecodeError, match=r"a\.png (states a size|is not a readable image)"):
            read(tmp_path / "a.png")


def test_what_lies_under_transparent_parts_does_not_count(tmp_path):
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[..., 0] = 255  # hidden red
    pixels[2:4, 2:4] = (0, 255, 0, 255)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert (read[0, 0].tolist(), read[2, 2].tolist()) == ([255, 255, 255], [0, 255, 0])


def test_a_pipe_or_a_folder_is_no_image(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    for name in ("a.png", "b.png"):
        for read in (read_image, read_header):
            with pytest.raises(DecodeError, match=name):
                read(tmp_path / name)


def test_an_image_in_a_folder_whose_name_is_no_utf8_is_read(tmp_path):
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))
    folder.mkdir()
    (folder / "a.png").write_bytes(encoded(".png"))
    assert read_image(folder / "a.png").shape == (48, 80, 3)
