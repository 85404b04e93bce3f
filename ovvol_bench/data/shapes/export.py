"""Writes rendered videos in the ILSVRC-VID layout, with mp4s and masks beside."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.shapes.render import Video, encode_jpeg, render
from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    WIDTH,
    Split,
    draw_scene,
    shapes_vocabulary,
    video_id,
)
from ovvol_bench.errors import DataError
from ovvol_bench.files import is_utf8
from ovvol_bench.types import FrameTruth

VIDEO_FPS = 8


def write_split(out: Path, split: Split, videos: int, seed: int = 0) -> Iterable[str]:
    """Write one split video by video; a video that is complete is not written again.

    ``Data/VID/SPLIT/VIDEO/%06d.JPEG``, ``Annotations/VID/SPLIT/VIDEO/%06d.xml``,
    ``Masks/VID/SPLIT/VIDEO/%06d.png`` (0 background, else 1 + track id), ``Videos/SPLIT/VIDEO.mp4``, and
    in ``ImageSets/VID`` both list layouts: ``SPLIT.txt`` (a line a frame) and ``VID_SPLIT_videos.txt`` (a
    line a video). Class names in the XML are the codes of ``shapes_vocabulary()``.

    Args:
        out: root of the tree, made if missing.
        split: which world.
        videos: how many.
        seed: of the world.

    Yields:
        The id of each video once it is on disk; the lists are written after the last one.

    Raises:
        DataError: if the folder can't be written to.
    """
    names = [video_id(split, index) for index in range(videos)]
    try:
        for index, name in enumerate(names):
            _write_video(out, split, name, (index, seed))
            yield name
        _write_lists(out / "ImageSets/VID", split, names)
    except OSError as error:
        raise DataError(f"{out}: can't write the dataset there ({error}). Give another folder.") from error


def _write_video(out: Path, split: Split, name: str, which: tuple[int, int]) -> None:
    movie = out / "Videos" / split / f"{name}.mp4"
    if movie.exists():  # written last, so the rest is there
        return
    video = render(draw_scene(split, *which))
    folders = [out / kind / "VID" / split / name for kind in ("Data", "Annotations", "Masks")]
    for folder in (*folders, movie.parent):
        folder.mkdir(parents=True, exist_ok=True)
    for t in range(FRAMES):
        (folders[0] / f"{t:06d}.JPEG").write_bytes(encode_jpeg(video.source[t]))
        (folders[1] / f"{t:06d}.xml").write_bytes(_xml(f"{split}/{name}", t, video.truth[t]))
        (folders[2] / f"{t:06d}.png").write_bytes(_png(video.masks[t]))
    _write_movie(movie, video)


def _png(mask: npt.NDArray[np.uint8]) -> bytes:
    return bytes(cv2.imencode(".png", mask)[1].tobytes())


def _write_movie(path: Path, video: Video) -> None:
    if not is_utf8(path):
        raise DataError(f"{path}: OpenCV can't write below a folder whose name is no UTF-8. Choose another.")
    partial = path.with_suffix(".part.mp4")
    writer = cv2.VideoWriter(str(partial), cv2.VideoWriter.fourcc(*"mp4v"), VIDEO_FPS, (WIDTH, HEIGHT))
    for frame in video.frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    partial.replace(path)


def _xml(folder: str, frame: int, truth: FrameTruth) -> bytes:
    codes = [c.code or c.name for c in shapes_vocabulary().classes]
    root = ET.Element("annotation")
    _fields(root, folder=folder, filename=f"{frame:06d}")
    _fields(ET.SubElement(root, "size"), width=WIDTH, height=HEIGHT)
    for i, (x1, y1, x2, y2) in enumerate(truth.boxes.astype(int)):
        thing = ET.SubElement(root, "object")
        _fields(thing, trackid=truth.track_ids[i], name=codes[truth.class_ids[i] - 1])
        _fields(ET.SubElement(thing, "bndbox"), xmax=x2, xmin=x1, ymax=y2, ymin=y1)
        _fields(thing, occluded=int(truth.occluded[i]), generated=int(truth.generated[i]))
    return bytes(ET.tostring(root))


def _fields(parent: ET.Element, **values: object) -> None:
    for tag, value in values.items():
        ET.SubElement(parent, tag).text = str(value)


def _write_lists(folder: Path, split: Split, names: list[str]) -> None:
    frames = [f"{name}/{t:06d}" for name in names for t in range(FRAMES)]
    per_frame = [f"{frame} {number}" for number, frame in enumerate(frames, 1)]
    per_video = [f"{split}/{name} {1 + i * FRAMES} 0 {FRAMES}" for i, name in enumerate(names)]
    folder.mkdir(parents=True, exist_ok=True)
    for file, lines in ((f"{split}.txt", per_frame), (f"VID_{split}_videos.txt", per_video)):
        partial = folder / f"{file}.part"
        partial.write_text("\n".join(lines) + "\n")
        partial.replace(folder / file)
