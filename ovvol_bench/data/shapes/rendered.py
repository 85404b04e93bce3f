"""Videos of the `shapes` world on disk, rendered once: what is trained on is read many times."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import prod
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import IO, Any, Literal

import cv2
import numpy as np
import numpy.typing as npt

from ovvol_bench.data.shapes.render import render
from ovvol_bench.data.shapes.world import (
    FRAMES,
    HEIGHT,
    MOST_OBJECTS,
    WIDTH,
    WORLD_VERSION,
    Split,
    draw_scene,
)
from ovvol_bench.errors import DataError
from ovvol_bench.files import replacing
from ovvol_bench.progress import with_progress

_FRAMES, _MASKS, _CLASSES, _BACKGROUNDS, _DONE = (
    f"{name}.npy" for name in ("frames", "masks", "classes", "backgrounds", "done")
)
_VIDEO_SHAPES = {_FRAMES: (FRAMES, HEIGHT, WIDTH, 3), _MASKS: (FRAMES, HEIGHT, WIDTH), _DONE: ()}
_WORTH_A_PROCESS = 40  # videos; fewer are rendered in less time than a process takes to start


@dataclass(frozen=True)
class World:
    """Which videos: the same world has the same pixels on any machine.

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
    ranks of a training do: they share the work, and what two of them render is the same bytes.

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
            _publish(partial, folder)
    except OSError as error:
        if not folder.is_dir():  # else another process has just finished it
            raise DataError(
                f"{folder}: the rendered videos, {world.videos * 1.2:.0f} MB, can't be written there "
                f"({error.strerror or error}). Set dataset.cache to another folder."
            ) from error
    return RenderedWorld(folder, world)


def _prepare(world: World, folder: Path) -> None:
    """Files of full size without content; leaves alone what is there already."""
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
    helpers = _start_helpers(world, folder, min(processes, world.videos // _WORTH_A_PROCESS) - 1)
    try:
        for _ in with_progress(_render_missing(world, folder), world.videos, "rendering shapes", int):
            pass
    finally:
        for helper in helpers:
            helper.terminate()
            helper.join()


def _start_helpers(world: World, folder: Path, count: int) -> list[SpawnProcess]:
    context = get_context("spawn")
    helpers = [context.Process(target=_help, args=(world, folder), daemon=True) for _ in range(count)]
    for helper in helpers:
        helper.start()
    return helpers


def _help(world: World, folder: Path) -> None:
    with suppress(
        OSError, KeyboardInterrupt
    ):  # the process that asked for help meets the same and reports it
        deque(_render_missing(world, folder), maxlen=0)


def _render_missing(world: World, folder: Path) -> Iterator[int]:
    """Render what nobody has rendered yet; yields how many more videos are there, others' included."""
    cv2.setNumThreads(1)
    counted = 0
    with ExitStack() as stack:
        files = {name: stack.enter_context((folder / name).open("r+b", 0)) for name in _VIDEO_SHAPES}
        offset = (folder / _DONE).stat().st_size - world.videos
        done = np.memmap(folder / _DONE, np.uint8, "r", offset)
        # In an order of its own, so that processes meet seldom.
        for index in np.random.default_rng(os.getpid()).permutation(world.videos).tolist():
            if not done[index]:
                _write_video(files, world, index)
            present = int(done.sum())
            yield present - counted
            counted = present


def _write_video(files: Mapping[str, IO[bytes]], world: World, index: int) -> None:
    video = render(draw_scene(world.split, index, world.seed))
    contents = {_FRAMES: video.frames.tobytes(), _MASKS: video.masks.tobytes(), _DONE: b"\x01"}
    for name, content in contents.items():
        files[name].seek(index * len(content) - world.videos * len(content), os.SEEK_END)
        files[name].write(content)


def _publish(partial: Path, folder: Path) -> None:
    """Give the finished folder its name; another process may have been first."""
    try:
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial, ignore_errors=True)
