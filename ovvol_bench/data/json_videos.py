"""Datasets ``coco``, ``coco-vid`` and ``youtube-vis``: one JSON file lists frames and truth.

A file is parsed once, whole, and kept as columns; classes, splits and frames are chosen from those.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

from ovvol_bench.data.base import FileIds, OutOfFrame
from ovvol_bench.data.cache import cache_folder, load_columns, store_columns
from ovvol_bench.data.indexed import IndexedTraining, IndexedVideos
from ovvol_bench.data.readers import FrameFolder, FrameReader
from ovvol_bench.data.sampling import ClipSettings, Sampling
from ovvol_bench.data.video_lists import Recipe, split_rows
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import no_collection
from ovvol_bench.formats import coco, coco_vid, youtube_vis
from ovvol_bench.formats.json_objects import JsonFile
from ovvol_bench.formats.json_truth import Annotations, BoxEnds, Reading
from ovvol_bench.naming.vocabulary import OBJECT, choose_vocabulary
from ovvol_bench.registry import ClipLength, FromSize, Located

VERSION = "5"
"""Of the columns and of how they are made; part of the cache's key."""

NO_FRAMES = "videos without frames"
BARE = "annotations without a box or mask in any frame"

CLASSLESS = "videocutler"
VIDEOSAUR_VAL = 300  # videos at the end of the training file, which VideoSAUR and SlotContrast validate on

SPLITS: Mapping[str, Recipe] = {
    "videosaur-train": lambda count: range(count - VIDEOSAUR_VAL),
    "videosaur-val": lambda count: range(count - VIDEOSAUR_VAL, count) if count > VIDEOSAUR_VAL else (),
    CLASSLESS: range,
}
"""Parts of YouTube-VIS's training file that papers score on: the validation file's truth is unpublished."""

_YOUTUBE_VIS_FILES = ("train/instances.json", "train.json", "instances.json")  # as the archives unpack


class JsonVideos(IndexedVideos):
    """Clips of the videos that a JSON file lists.

    A subclass gives the function that reads its format, frames_per_clip, sampling and stride of clips, the
    meaning of box ends, and splits by name.

    Args:
        path: the JSON file.
        frames: folder that the file names start from; none: the JSON's own. Scoring needs none.
        split: all, or a .txt file with a video a line.
        vocabulary: object (one class), a built-in name or a .yaml file; none: the built-in one that has
            exactly the JSON's names, else those.
        masks: whether to read masks.
        out_of_frame: whether boxes beyond the frame stay, are cut at its edges, or are an error; also those
            of detections that are scored.
        short_side: of resized frames, pixels.
        multiple: what both sides are multiples of, pixels.
        scale_at_decode: let the decoder scale: quicker, but other pixels than the reference's.
        cache: folder for parsed annotations; none: the user's cache folder.

    Raises:
        DataError: if the file is missing or malformed; names the entry.
    """

    def __init__(  # noqa: PLR0913 - settings
        self,
        read: Callable[[JsonFile, Reading], Annotations],
        clips: tuple[int, Sampling, int] = (1, "all", 1),
        box_ends: BoxEnds = "exclusive",
        splits: Mapping[str, Recipe] = MappingProxyType({}),
        *,
        path: Annotated[Path, Located],
        frames: Annotated[Path | None, Located] = None,
        split: str = "all",
        vocabulary: str | None = None,
        masks: bool = True,
        out_of_frame: OutOfFrame = "keep",
        short_side: Annotated[int, FromSize("short_side")] = 224,
        multiple: Annotated[int, FromSize("multiple")] = 16,
        scale_at_decode: bool = False,
        cache: Annotated[str | None, Located] = None,
    ) -> None:
        everything = _load(path, cache_folder(cache), read, Reading(masks, out_of_frame, box_ends))
        rows = split_rows(split, everything.index.videos.tolist(), splits, path)
        words, class_of = choose_vocabulary(vocabulary, everything.category_names.tolist(), path.name)
        super().__init__(words, ClipSettings(*clips, short_side, multiple, scale_at_decode))
        found = everything.of_videos(rows)
        self.out_of_frame = out_of_frame
        self.index = found.index.with_classes(class_of)
        self.crowds = found.crowds.with_classes(class_of)
        self.image_ids = found.frame_ids if len(found.frame_ids) else None
        self.annotated = found.annotated
        self._annotations, self._class_of, self._root = found, class_of, frames or path.parent
        self._found = False

    @cached_property
    def skipped(self) -> Mapping[str, int]:  # type: ignore[override]  # read by others, set by nobody
        counts = {NO_FRAMES: int(self._annotations.counts[1]), BARE: int(self._annotations.bare.sum())}
        return {**{reason: count for reason, count in counts.items() if count}, **super().skipped}

    def frames(self, video: int, rows: Sequence[int]) -> FrameReader:
        if not self._found:  # all are looked for at the first use: scoring needs none
            _require_files(self._root, self._annotations.files.tolist())
            self._found = True
        height, width = self.index.frame_sizes[video].tolist()
        files = [self._root / name for name in self._annotations.files[list(rows)].tolist()]
        return FrameFolder(files, (height, width))

    def frame_files(self) -> list[str]:
        return [f"{self._root}/{name}" for name in self._annotations.files.tolist()]

    def file_ids(self) -> FileIds:
        names = self.index.videos.tolist()
        classes = zip(self._annotations.category_ids.tolist(), self._class_of[1:].tolist(), strict=True)
        return FileIds(
            dict(zip(self._annotations.video_ids.tolist(), names, strict=True)),
            dict(zip(self._annotations.frame_ids.tolist(), self.places, strict=False)),
            {number: class_id for number, class_id in classes if class_id},
        )

    def training_videos(self) -> IndexedTraining:
        return IndexedTraining(self)


class Coco(JsonVideos):
    """Images in COCO's format, each a video of one frame, so that detectors of images are scored alike.

    Args:
        path: the JSON file, such as instances_val2017.json.
        split: all, or a .txt file with an image's file name a line.
    """

    def __init__(self, **base: Any) -> None:
        super().__init__(coco.read_truth, **base)


class CocoVid(JsonVideos):
    """Videos in COCO's format as MMTracking extends it, ImageNet-VID converted by it too.

    Args:
        box_ends: whether x + width is the last column inside a box (inclusive) or one past it (exclusive);
            auto: inclusive if annotations have "generated", as ImageNet-VID's that MMTracking converted.
        frames_per_clip: frames in a clip.
        sampling: all covers every frame, reference drops the ends of videos as the paper's code does.
        stride: every n-th frame is used.
    """

    def __init__(
        self,
        *,
        box_ends: BoxEnds = "auto",
        frames_per_clip: Annotated[int, ClipLength] = 8,
        sampling: Sampling = "all",
        stride: int = 1,
        **base: Any,
    ) -> None:
        super().__init__(coco_vid.read_truth, (frames_per_clip, sampling, stride), box_ends, **base)


class YoutubeVis(JsonVideos):
    """YouTube-VIS 2019 or 2021, or any JSON of its format: boxes, masks and tracks.

    Args:
        path: the JSON file, or the folder of the archive, whose training file is taken.
        frames: folder that the file names start from; none: JPEGImages near the JSON. Scoring needs none.
        split: all, videosaur-train, videosaur-val, videocutler, or a .txt file with a video a line.
        vocabulary: object (one class), a built-in name or a .yaml file; none: the year's or the JSON's.
        frames_per_clip: frames in a clip.
        sampling: all covers every frame, reference drops the ends of videos as the paper's code does.
        stride: every n-th of the listed frames is used; YouTube-VIS lists every fifth.
    """

    def __init__(  # noqa: PLR0913 - settings
        self,
        *,
        path: Annotated[Path, Located],
        frames: Annotated[Path | None, Located] = None,
        split: str = "all",
        vocabulary: str | None = None,
        frames_per_clip: Annotated[int, ClipLength] = 8,
        sampling: Sampling = "all",
        stride: int = 1,
        **base: Any,
    ) -> None:
        if split == CLASSLESS and vocabulary not in (None, OBJECT):
            raise SettingError(
                f"dataset.split={split} is without classes: leave dataset.vocabulary out, or choose "
                "split=all."
            )
        if path.is_dir():
            files = [path / name for name in _YOUTUBE_VIS_FILES if (path / name).is_file()]
            if not files:
                listed = ", ".join(_YOUTUBE_VIS_FILES)
                raise DataError(f"{path} holds none of {listed}: set dataset.path to the JSON file.")
            path = files[0]
        if frames is None:  # beside the file, in a folder of its name, or beside its folder
            folders = (path.parent, path.with_suffix(""), path.parent.parent)
            near = [folder / "JPEGImages" for folder in folders]
            frames = next((folder for folder in near if folder.is_dir()), near[0])
        super().__init__(
            youtube_vis.read_truth,
            (frames_per_clip, sampling, stride),
            splits=SPLITS,
            path=path,
            frames=frames,
            split=split,
            vocabulary=OBJECT if split == CLASSLESS else vocabulary,
            **base,
        )


def _load(
    path: Path, cache: Path, read: Callable[[JsonFile, Reading], Annotations], reading: Reading
) -> Annotations:
    """Read a file: from the cache, or by parsing it and then into the cache."""
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(
            f"{path} can't be read ({error.strerror}). Set dataset.path to the annotation file."
        ) from error
    form = (read.__module__, reading)  # other settings are parsed again
    source = repr((VERSION, form, os.fspath(path.absolute()), stat.st_size, stat.st_mtime_ns))
    key = f"json-{hashlib.blake2b(source.encode(), digest_size=16).hexdigest()}"
    columns = load_columns(cache, key)
    if columns is None:
        with no_collection():
            columns = read(JsonFile.read(path), reading).columns()
        store_columns(cache, key, columns)
    return Annotations.of_columns(columns)


def _require_files(root: Path, names: Sequence[str]) -> None:
    # each folder is listed once: a look at every file is slow on network file systems
    listed: dict[str, set[str]] = {}
    missing = []
    for name in names:
        folder, _, file = name.rpartition("/")
        if folder not in listed:
            path = root / folder
            listed[folder] = set(os.listdir(path)) if path.is_dir() else set()  # noqa: PTH208 - names are enough
        if file not in listed[folder]:
            missing.append(name)
    if missing:
        first = ", ".join(str(root / name) for name in missing[:3])
        raise DataError(
            f"{len(missing)} of {len(names)} frames are missing under {root}, first: {first}. Set "
            "dataset.frames to the folder that the names in the file start from, or extract the frames again."
        )
