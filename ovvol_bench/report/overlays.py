"""Pictures and videos of a run: what was seen, grouped, kept, named, and what is true."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ovvol_bench.data.base import Dataset, IncompleteClipError
from ovvol_bench.errors import DataError, OvvolError
from ovvol_bench.files import below, file_stem, replacing
from ovvol_bench.predictions import ClipPrediction, own_part, predicted_frames
from ovvol_bench.report.drawing import Image, fit
from ovvol_bench.report.panels import View, panel_size, panels, sheet
from ovvol_bench.report.videos import write_video
from ovvol_bench.types import Clip, FrameTruth

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
    """``write_overlays``, file by file."""
    ordered = sorted(predictions, key=lambda found: (found.info.video, found.info.frame_indices[:1]))
    if not ordered:
        raise OvvolError(f"{run_folder}: no predictions to draw. Finish the run first: ovvol-bench run")
    chosen = [ordered[index] for index in spread(len(ordered), clips)]
    videos = list(dict.fromkeys(found.info.video for found in chosen)) if video else []
    shown = chosen + [found for found in ordered if found.info.video in videos]
    artist = _Artist(dataset, _positions(dataset, shown), run_folder.parent.name)
    for found in chosen:
        yield _write_picture(below(out, f"{file_stem(found.info.id)}.png"), artist.strip(found))
    for name in videos:
        frames = (page for found in ordered if found.info.video == name for page in artist.film(found))
        yield write_video(below(out, f"{file_stem(name)}.mp4"), frames, RATE)


def spread(count: int, wanted: int) -> list[int]:
    """At most ``wanted`` of ``count`` positions, evenly apart, first and last included.

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
        """Some frames of a clip, one below the other."""
        views = self._views(found)
        chosen = [views[step] for step in spread(len(views), ROWS)]
        return sheet([panels(view) for view in chosen], self._caption(found.info.id))

    def film(self, found: ClipPrediction) -> Iterator[Image]:
        """All frames of a clip, one after the other."""
        for view in self._views(found):
            yield sheet([panels(view)], self._caption(found.info.video))

    def _views(self, found: ClipPrediction) -> Sequence[View]:
        found = own_part(found)
        try:
            clip = self.dataset.clip(self.positions[found.info.id])
        except IncompleteClipError as error:
            clip = error.clip
        info = predicted_frames(clip.info, found.info.frame_indices)
        truths: Sequence[FrameTruth | None] = info.truth or [None] * len(info.frame_indices)
        names = [known.name.replace("_", " ") for known in self.dataset.vocabulary.classes]
        return [
            View(picture, index, step, found.localization, info.frame_size, truth, names)
            for step, (picture, index, truth) in enumerate(
                zip(_pictures(clip, info.frame_indices), info.frame_indices, truths, strict=True)
            )
        ]

    def _caption(self, what: str) -> str:
        return f"{what}   ·   {self.title}" if self.title else what


def _pictures(clip: Clip, indices: Sequence[int]) -> list[Image]:
    """The clip's frames at some positions in the video, as large as a panel."""
    size = panel_size(clip.info.frame_size)
    shown = zip(clip.info.frame_indices, clip.frames, strict=True)
    frames = [frame for index, frame in shown if index in indices]
    return [fit((255 * frame).round().clip(0, 255).astype(np.uint8), size) for frame in frames]


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


def _write_picture(path: Path, image: Image) -> Path:
    from PIL import Image as Pictures

    with replacing(path) as temporary:
        Pictures.fromarray(image).save(temporary)
    return path
