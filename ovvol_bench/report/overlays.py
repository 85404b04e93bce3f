"""Pictures and videos of a run: frames, slots, kept slots, named boxes, and truth."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from ovvol_bench.data.base import Dataset, IncompleteClipError
from ovvol_bench.errors import DataError, OvvolError
from ovvol_bench.files import below, file_stem, is_utf8, replacing
from ovvol_bench.predictions import ClipPrediction, own_part, predicted_frames
from ovvol_bench.report.drawing import Image, fit
from ovvol_bench.report.panels import View, panel_size, panels, sheet
from ovvol_bench.types import FrameTruth

ROWS = 3
RATE = 8.0


def write_overlays(
    run_folder: Path,
    dataset: Dataset,
    predictions: Iterable[ClipPrediction],
    out: Path,
    clips: int = 8,
    video: bool = True,
) -> list[Path]:
    """Draw clips of a run side by side: frame, slots, kept slots, named boxes and, if known, truth.

    Args:
        run_folder: whose parent's name, the combination, is written under the pictures.
        dataset: where the predicted clips come from.
        predictions: of any number of its clips.
        out: folder of the files, made if needed.
        clips: how many clips to draw, evenly spread over all; each gets a PNG of its first, middle
            and last frame.
        video: also write an mp4 of every video that the drawn clips come from, with all of its
            predicted frames in order.

    Returns:
        The files, in the order of writing.

    Raises:
        OvvolError: if there are no predictions.
        DataError: if the dataset lacks a predicted clip, or its frames can't be read.
        SettingError: if ``out`` can't be written to.
    """
    return list(each_overlay(run_folder, dataset, predictions, out, clips, video))


def each_overlay(
    run_folder: Path,
    dataset: Dataset,
    predictions: Iterable[ClipPrediction],
    out: Path,
    clips: int = 8,
    video: bool = True,
) -> Iterator[Path]:
    """Draw and yield file by file; see ``write_overlays``."""
    from PIL import Image as PillowImage

    ordered = sorted(predictions, key=lambda found: (found.info.video, found.info.frame_indices[:1]))
    if not ordered:
        raise OvvolError(f"{run_folder}: no predictions to draw. Finish the run first: ovvol-bench run")
    chosen = [ordered[index] for index in spread(len(ordered), clips)]
    videos = list(dict.fromkeys(found.info.video for found in chosen)) if video else []
    shown = chosen + [found for found in ordered if found.info.video in videos]
    artist = _Artist(dataset, _positions(dataset, shown), run_folder.parent.name)
    for found in chosen:
        path = below(out, f"{file_stem(found.info.id)}.png")
        with replacing(path) as temporary:
            PillowImage.fromarray(artist.strip(found)).save(temporary)
        yield path
    for name in videos:
        frames = (page for found in ordered if found.info.video == name for page in artist.film(found))
        yield write_video(below(out, f"{file_stem(name)}.mp4"), frames, RATE)


def spread(count: int, wanted: int) -> list[int]:
    """Choose at most ``wanted`` of ``count`` positions, evenly apart, first and last included.

    >>> spread(8, 3), spread(2, 5), spread(9, 1)
    ([0, 4, 7], [0, 1], [0])
    """
    positions = np.linspace(0, count - 1, min(count, wanted)).round().astype(int)
    return [int(position) for position in positions]


@dataclass(frozen=True)
class _Artist:
    """Draws predictions.

    Attributes:
        dataset: where the frames and the truth come from.
        positions: of the clips in the dataset, by id.
        title: of the run, for captions.
    """

    dataset: Dataset
    positions: dict[str, int]
    title: str

    def strip(self, found: ClipPrediction) -> Image:
        """Lay some frames of a clip one below the other."""
        views = self._views(found)
        chosen = [views[step] for step in spread(len(views), ROWS)]
        return sheet([panels(view) for view in chosen], self._caption(found.info.id))

    def film(self, found: ClipPrediction) -> Iterator[Image]:
        """Yield all frames of a clip in order."""
        for view in self._views(found):
            yield sheet([panels(view)], self._caption(found.info.video))

    def _views(self, found: ClipPrediction) -> list[View]:
        found = own_part(found)
        try:
            clip = self.dataset.clip(self.positions[found.info.id])
        except IncompleteClipError as error:
            clip = error.clip
        info = predicted_frames(clip.info, found.info.frame_indices)
        truths: Sequence[FrameTruth | None] = info.truth or [None] * len(info.frame_indices)
        names = [known.name.replace("_", " ") for known in self.dataset.vocabulary.classes]
        size, views = panel_size(info.frame_size), []
        frames = dict(zip(clip.info.frame_indices, clip.frames, strict=True))
        for step, (index, truth) in enumerate(zip(info.frame_indices, truths, strict=True)):
            pixels = (255 * frames[index]).round().clip(0, 255).astype(np.uint8)
            picture = fit(pixels, size)
            views.append(View(picture, index, step, found.localization, info.frame_size, truth, names))
        return views

    def _caption(self, what: str) -> str:
        return f"{what}   ·   {self.title}" if self.title else what


def _positions(dataset: Dataset, wanted: Sequence[ClipPrediction]) -> dict[str, int]:
    missing = {found.info.id for found in wanted}
    positions: dict[str, int] = {}
    for index in range(len(dataset)):
        if not missing:
            break
        clip_id = dataset.info(index).id
        if clip_id in missing:
            positions[clip_id] = index
            missing.remove(clip_id)
    if missing:
        raise DataError(
            f"predicted clip '{min(missing)}' is not in the dataset ({len(missing)} such clips). Was the run "
            "made on other data? Run it again, or restore the data of then."
        )
    return positions


def write_video(path: Path, frames: Iterable[Image], rate: float) -> Path:
    """Write frames as MPEG-4 part 2, which every OpenCV build can write, atomically.

    Args:
        path: ends in ``.mp4``.
        frames: at least one; (height, width, 3) uint8 RGB of one size with even sides.
        rate: frames a second.

    Raises:
        OvvolError: if this OpenCV can't write mp4, or there are no frames.
        SettingError: if the folder can't be written to.
    """
    with replacing(path) as temporary:
        writer = None
        try:
            for frame in frames:
                writer = writer or _video_writer(temporary, frame, rate)
                writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        finally:
            if writer is not None:
                writer.release()  # writes the index of the file
        if writer is None:
            raise OvvolError(f"{path}: no frames to write")
    return path


def _video_writer(path: Path, frame: Image, rate: float) -> cv2.VideoWriter:
    if not is_utf8(path):
        raise OvvolError(f"{path}: OpenCV can't write below a folder whose name is no UTF-8. Choose another.")
    height, width = frame.shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
    if not writer.isOpened():
        raise OvvolError(f"{path}: this OpenCV can't write mp4 videos. Leave them out with --no-video.")
    return writer
