"""Rendered videos on disk: a tree in the ILSVRC-VID layout, and arrays that training maps."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import prod
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree as ET

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    MOST_OBJECTS,
    WIDTH,
    WORLD_VERSION,
    Split,
    Video,
    draw_scene,
    encode_jpeg,
    render,
    shapes_vocabulary,
    video_id,
)
from ovvol_bench.errors import DataError
from ovvol_bench.files import is_utf8, replacing
from ovvol_bench.progress import with_progress
from ovvol_bench.types import FrameTruth

VIDEO_FPS = 8

_FRAMES, _MASKS, _CLASSES, _BACKGROUNDS, _DONE = (
    f"{name}.npy" for name in ("frames", "masks", "classes", "backgrounds", "done")
)
_VIDEO_SHAPES = {_FRAMES: (FRAMES, HEIGHT, WIDTH, 3), _MASKS: (FRAMES, HEIGHT, WIDTH), _DONE: ()}
_WORTH_A_PROCESS = 40  # videos; fewer are rendered in less time than a process takes to start


def write_split(out: Path, split: Split, videos: int, seed: int = 0) -> Iterable[str]:
    """Write a split video by video; a video that is complete is not written again.

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
            _write_tree(out, split, name, (index, seed))
            yield name
        _write_lists(out / "ImageSets/VID", split, names)
    except OSError as error:
        raise DataError(f"{out}: can't write the dataset there ({error}). Give another folder.") from error


def _write_tree(out: Path, split: Split, name: str, which: tuple[int, int]) -> None:
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
        (folders[2] / f"{t:06d}.png").write_bytes(cv2.imencode(".png", video.masks[t])[1].tobytes())
    _write_movie(movie, video)


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


@dataclass(frozen=True)
class World:
    """Videos of a split and a seed: the same world has the same pixels on any machine.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        videos: how many.
        seed: of the world.
    """

    split: Split
    videos: int
    seed: int = 0

    @property
    def key(self) -> str:
        """Names the content, the renderer's version included."""
        return f"shapes-{WORLD_VERSION}-{self.split}-{self.videos}-{self.seed}"


class RenderedWorld:
    """A rendered world, mapped from disk; a copy in another process maps it again.

    Args:
        folder: that `render_world` gave.
        world: that it holds.

    Attributes:
        world: as given.
        frames: (videos, 24, 96, 128, 3) uint8 RGB.
        masks: (videos, 24, 96, 128) uint8, 0 background, else 1 + track id of the front-most object.
        classes: (videos, 5) int64, class id by 1 + track id; 0 where there is no such object.
        backgrounds: (videos,) kind of every video's background.

    Raises:
        DataError: if the folder is damaged.
    """

    def __init__(self, folder: Path, world: World) -> None:
        self.world = world
        self._folder = folder
        self.frames: npt.NDArray[np.uint8] = self._load(_FRAMES, "r")
        self.masks: npt.NDArray[np.uint8] = self._load(_MASKS, "r")
        self.classes: npt.NDArray[np.int64] = self._load(_CLASSES)
        self.backgrounds: npt.NDArray[np.str_] = self._load(_BACKGROUNDS)

    def __reduce__(self) -> tuple[type[RenderedWorld], tuple[Path, World]]:
        return RenderedWorld, (self._folder, self.world)

    def _load(self, name: str, mode: Literal["r"] | None = None) -> npt.NDArray[Any]:
        try:
            array = np.load(self._folder / name, mode, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                f"{self._folder / name} can't be read ({error}). Remove the folder; it is rendered again."
            ) from error
        return np.asarray(array)  # still mapped, without the slow indexing of np.memmap


def render_world(world: World, cache: Path, processes: int | None = None) -> RenderedWorld:
    """Open a world, rendering what is missing of it into ``cache``.

    Rendering that was cut off goes on where it stopped. Several processes may do this at once, as the
    ranks of a training do: they share the work.

    Args:
        world: which videos; 1.2 MB each.
        cache: folder that gets one of the world's own.
        processes: that render; None takes one a processor.

    Raises:
        DataError: if the folder can't be written to, or is damaged.
    """
    folder = cache / world.key
    partial = folder.with_name(f".{world.key}-partial")
    try:
        if not folder.is_dir():
            _prepare(world, partial)
            _render_on_processes(world, partial, processes or os.cpu_count() or 1)
            partial.rename(folder)
    except OSError as error:
        if not folder.is_dir():
            raise DataError(
                f"{folder}: the rendered videos, {world.videos * 1.2:.0f} MB, can't be written there "
                f"({error.strerror or error}). Set dataset.cache to another folder."
            ) from error
        shutil.rmtree(partial, ignore_errors=True)  # another process was first
    return RenderedWorld(folder, world)


def _prepare(world: World, folder: Path) -> None:
    """Make files of full size without content; leave alone what is there already."""
    # full size from the start, so that every process writes to its own places and needs no lock
    folder.mkdir(parents=True, exist_ok=True)
    classes, backgrounds = np.zeros((world.videos, 1 + MOST_OBJECTS), np.int64), []
    for index in range(world.videos):
        scene = draw_scene(world.split, index, world.seed)
        classes[index, 1 : 1 + len(scene.objects)] = [thing.class_id for thing in scene.objects]
        backgrounds.append(scene.background.kind)
    for name, column in ((_CLASSES, classes), (_BACKGROUNDS, np.array(backgrounds))):
        with replacing(folder / name) as temporary:
            np.save(temporary, column)
    for name, shape in _VIDEO_SHAPES.items():
        (folder / name).touch()
        with (folder / name).open("r+b") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": (world.videos, *shape)}
            np.lib.format.write_array_header_1_0(file, header)
            file.truncate(file.tell() + world.videos * prod(shape))


def _render_on_processes(world: World, folder: Path, processes: int) -> None:
    context = get_context("spawn")
    helpers = [
        context.Process(target=_help, args=(world, folder), daemon=True)
        for _ in range(min(processes, world.videos // _WORTH_A_PROCESS) - 1)
    ]
    for helper in helpers:
        helper.start()
    try:
        for _ in with_progress(_render_missing(world, folder), world.videos, "rendering shapes", int):
            pass
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()


def _help(world: World, folder: Path) -> None:
    # the process that asked for help meets the same error and reports it
    with suppress(OSError, KeyboardInterrupt):
        deque(_render_missing(world, folder), maxlen=0)


def _render_missing(world: World, folder: Path) -> Iterator[int]:
    """Render what no process has rendered yet; yield how many more videos are there, others' included."""
    cv2.setNumThreads(1)
    counted = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("r+b", 0)) for name in _VIDEO_SHAPES}
        offset = (folder / _DONE).stat().st_size - world.videos
        done = np.memmap(folder / _DONE, np.uint8, "r", offset)
        # In an order of its own, so that processes meet seldom.
        for index in np.random.default_rng(os.getpid()).permutation(world.videos).tolist():
            if not done[
                index
            ]:  # else another process was first; where two render one, the bytes are the same
                video = render(draw_scene(world.split, index, world.seed))
                contents = {_FRAMES: video.frames.tobytes(), _MASKS: video.masks.tobytes(), _DONE: b"\x01"}
                for name, content in contents.items():
                    files[name].seek((index - world.videos) * len(content), os.SEEK_END)
                    files[name].write(content)
            present = int(done.sum())
            yield present - counted
            counted = present
