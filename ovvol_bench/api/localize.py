"""``localize``: named objects of one video, frame by frame, with pictures."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.api.run import Device, Places, check_values, make_selection, registry_of, settings_of
from ovvol_bench.arrays import Bools, Floats, Ints
from ovvol_bench.data.readers import ArrayFrames, FrameReader, Image
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.video import decoding_worker, open_reader
from ovvol_bench.data.videos import OneVideo
from ovvol_bench.detections import Detections, Frames, detections_of, in_order
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import in_utf8
from ovvol_bench.formats import format_of
from ovvol_bench.formats.entries import Content
from ovvol_bench.metrics.linking import link_clips
from ovvol_bench.naming.vocabulary import Vocabulary, load_vocabulary, parse_vocabulary
from ovvol_bench.progress import progress_bars, quiet
from ovvol_bench.runs.spec import PartSpec
from ovvol_bench.tuning import spin_briefly

if TYPE_CHECKING:
    from pandas import DataFrame
    from PIL.Image import Image as Picture

    from ovvol_bench.registry import Registry
    from ovvol_bench.runs.selection import Selection

Words = Vocabulary | str | Path | Sequence[str]


@dataclass(frozen=True)
class FrameObjects:
    """N named objects of one frame.

    Attributes:
        frame: position in the video, from 0.
        boxes: (N, 4) float32 x1, y1, x2, y2, pixels of the original frame, ends inclusive.
        names: (N,) class names.
        scores: (N,) float64 in [0, 1].
        tracks: (N,) int64, the same for an object in all frames.
        masks: (N, H, W) bool, pixels of the original frame.
    """

    frame: int
    boxes: Floats
    names: tuple[str, ...]
    scores: npt.NDArray[np.float64]
    tracks: Ints
    masks: Bools

    def __len__(self) -> int:
        return len(self.boxes)


class LocalizedVideo:
    """Named objects of a video, by frame: ``found[3].names``.

    Attributes:
        name: of the video.
        class_names: that were looked for.
        detections: all objects as columns, ``ovvol_bench.detections.Detections``.
        notes: remarks, such as that weights were made for other pictures.
    """

    def __init__(self, dataset: OneVideo, detections: Detections, notes: Sequence[str]) -> None:
        self.name = dataset.name
        self.class_names = dataset.vocabulary.names[1:]
        self.detections = detections
        self.notes = tuple(notes)
        self._dataset = dataset

    @property
    def frame_indices(self) -> tuple[int, ...]:
        """Positions of the localized frames in the video."""
        return tuple(self.detections.frames.index.tolist())

    def __len__(self) -> int:
        return len(self.detections.frames)

    def __iter__(self) -> Iterator[FrameObjects]:
        return (self[frame] for frame in self.frame_indices)

    def __getitem__(self, frame: int) -> FrameObjects:
        rows = np.flatnonzero(self.detections.frame == self._row(frame))
        found = self.detections
        return FrameObjects(
            frame,
            found.boxes[rows].astype(np.float32),
            tuple(self.class_names[each - 1] for each in found.class_ids[rows]),
            found.scores[rows],
            found.tracks[rows],
            found.masks_of(rows, self._dataset.reader.frame_size).decode(),
        )

    def to_pandas(self) -> DataFrame:
        """A row an object and frame: frame, name, score, x1, y1, x2, y2 and track."""
        from pandas import DataFrame

        found = self.detections
        return DataFrame(
            {
                "frame": found.frames.index[found.frame],
                "name": [self.class_names[each - 1] for each in found.class_ids],
                "score": found.scores,
                **dict(zip(("x1", "y1", "x2", "y2"), found.boxes.T, strict=True)),
                "track": found.tracks,
            }
        )

    def save(self, path: str | Path, format: str = "coco-vid") -> Path:
        """Write all objects to a file, see docs/formats.md.

        Args:
            path: of the file, or of the folder for ``mot``.
            format: ``coco``, ``coco-vid``, ``youtube-vis``, ``vid-devkit`` or ``mot``.

        Raises:
            UnknownNameError: if the format is unknown.
            SettingError: if the file can't be written.
        """
        frames, names = self.detections.frames, self._dataset.vocabulary.names
        content = Content(frames, self._dataset.file_ids(), names)
        format_of(format).write(self.detections, content, Path(path))
        return Path(path)

    def show(
        self, frame: int | None = None, *, masks: bool = True, min_score: float = 0.0, width: int = 640
    ) -> Picture:
        """Draw a frame with its named boxes; notebooks show what this returns.

        Args:
            frame: position in the video; None for the middle one.
            masks: tint the pixels of objects.
            min_score: leave out objects below it.
            width: of the picture, pixels.

        Returns:
            A Pillow image, to ``save`` or ``show``.

        Raises:
            DataError: if the frame was not localized, or can't be read.
        """
        from PIL import Image as Pictures

        from ovvol_bench.report.panels import objects_picture

        found = self[self.frame_indices[len(self) // 2] if frame is None else frame]
        (pixels,) = self._dataset.reader.images([found.frame])
        best_first = np.argsort(-found.scores)
        shown = best_first[found.scores[best_first] >= min_score]
        picture = objects_picture(
            np.asarray(pixels),
            found.boxes[shown],
            [f"{found.names[row]} {found.scores[row]:.2f}" for row in shown],
            [self.class_names.index(found.names[row]) for row in shown],
            found.masks[shown] if masks else None,
            width,
        )
        return Pictures.fromarray(picture)

    def __repr__(self) -> str:
        return f"<LocalizedVideo {self.name}: {len(self.detections)} boxes in {len(self)} frames>"

    def _repr_png_(self) -> bytes | None:
        picture: bytes | None = self.show()._repr_png_()
        return picture

    def _row(self, frame: int) -> int:
        rows = self.detections.frames.rows(np.zeros(1, np.int64), np.array([frame]))
        if rows[0] < 0:
            known = self.frame_indices
            raise DataError(
                f"frame {frame} of '{self.name}' was not localized; expected one from {known[0]} to "
                f"{known[-1]} in steps of {self._dataset.clips.stride}"
            )
        return int(rows[0])


def localize(  # noqa: PLR0913 - a keyword an option
    video: str | Path | Image,
    vocabulary: Words,
    *,
    background: str | Sequence[str] = "coco-stuff",
    encoder: str | None = None,
    grouper: str | None = None,
    labeler: str | None = None,
    options: Mapping[str, Any] | None = None,
    preset: str | Path = "shapes",
    weights_from: str | Path | None = None,
    seed: int | None = None,
    name: str | None = None,
    device: Device = "auto",
    plugins: Places = (),
    progress: bool = True,
) -> LocalizedVideo:
    """Localize and name objects in one video; nothing is kept on disk.

    The weights are those of the preset. Preset ``shapes``, the default, has small ones that know the built-in
    rendered videos and little else: give ``weights_from`` or ``options`` for videos of the world.

    Args:
        video: file, folder of frames, or (T, H, W, 3) uint8 RGB.
        vocabulary: names to look for; or a vocabulary, its name or its YAML file.
        background: names that mark what is no object, or a word list; counts where ``vocabulary`` is names.
        encoder: by name; None for the preset's, as the next two.
        grouper: see encoder.
        labeler: see encoder.
        options: settings, as of ``run``; those of dataset ``videos`` say how clips are cut and resized.
        preset: by name, or a YAML file.
        weights_from: folder of official checkpoints.
        seed: of random draws; None for the preset's first.
        name: of the video, which files of detections name it by; None for the file's.
        device: ``auto`` is CUDA where there is a device.
        plugins: Python files to load plugins from.
        progress: show on standard error how far it is.

    Raises:
        UnknownNameError, SettingError: if a name or setting is wrong.
        DataError: if the video can't be read.

    >>> import numpy as np
    >>> found = localize(np.zeros((8, 96, 128, 3), np.uint8), ["plain star", "plain circle"], progress=False)
    >>> len(found), found[3].boxes.shape[1], found.show(frame=3).size
    (8, 4, (640, 480))
    """
    check_values({"device": device})
    settings = settings_of(options, weights_from)
    for setting in settings.get("dataset", {}):
        if setting.rpartition(".")[2] in ("path", "vocabulary"):
            raise SettingError(f"dataset.{setting}: localize takes it as an argument of its own")
    registry = registry_of(plugins)
    parts = {"encoder": encoder, "grouper": grouper, "labeler": labeler, "dataset": "videos"}
    selection = make_selection(
        registry,
        {kind: [part] for kind, part in parts.items() if part},
        settings,
        preset=preset,
        seeds=None if seed is None else (seed,),
    )
    # There is no truth to score against; one seed gives one answer.
    selection = replace(selection, metrics=(), seeds=selection.seeds[:1], consensus=None)
    if isinstance(vocabulary, str | Path):
        vocabulary = load_vocabulary(vocabulary)
    elif not isinstance(vocabulary, Vocabulary):
        marks = background if isinstance(background, str) else list(background)
        vocabulary = parse_vocabulary({"classes": list(vocabulary), "background": marks})
    # Clips are cut as those of dataset `videos`, whose path is the video itself.
    cutting = registry.resolve("dataset", "videos", {"path": ".", **selection.datasets[0].options})
    with quiet(not progress):
        return _localized(selection, _opened(video, name, vocabulary, cutting), registry, device)


def _opened(
    video: str | Path | Image, name: str | None, words: Vocabulary, cutting: Mapping[str, Any]
) -> OneVideo:
    reader: FrameReader
    if isinstance(video, str | Path):
        worker = decoding_worker(cutting["timeout"])
        reader, usual = open_reader(Path(video), cutting["backend"], worker), in_utf8(Path(video).name)
    else:
        reader, usual = ArrayFrames(video), "video"
    numbers = [cutting[each] for each in ("stride", "short_side", "multiple", "scale_at_decode")]
    return OneVideo(name or usual, reader, words, ClipSettings(cutting["frames_per_clip"], "all", *numbers))


def _localized(selection: Selection, dataset: OneVideo, registry: Registry, device: Device) -> LocalizedVideo:
    """Run one combination in a folder that is removed afterwards, and join its clips."""
    spin_briefly(os.environ)  # before anything loads torch
    from ovvol_bench.fidelity import arithmetic
    from ovvol_bench.runs.plan import pick_device, plan_on
    from ovvol_bench.runs.predictions import read_predictions
    from ovvol_bench.runs.session import Conduct, run_plan

    spec = PartSpec("video", digest=dataset.fingerprint())
    # A run keeps what it finds in a folder: one path for one video and for a benchmark.
    with (
        TemporaryDirectory() as folder,
        arithmetic(selection.fidelity),
        progress_bars("clips") as bars,
    ):
        conduct = Conduct(Path(folder), pick_device(device), progress=bars)
        plan = plan_on(selection, (spec, dataset), registry, conduct.device)
        (finished,) = run_plan(plan, registry, conduct)
        if finished.error:
            raise finished.error
        predictions = read_predictions(finished.folder.predictions)
    clips = in_order(plan.infos)
    detections = detections_of(predictions, Frames.of(clips), masks=True)
    return LocalizedVideo(dataset, link_clips(detections, clips), finished.remarks)
