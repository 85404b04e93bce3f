"""Bases of datasets: clips to localize in, with or without truth, and videos and pictures to train on."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.detections import in_order
from ovvol_bench.errors import DataError, DecodeError, SettingError
from ovvol_bench.types import Clip, ClipInfo

if TYPE_CHECKING:
    from ovvol_bench.naming.vocabulary import Vocabulary

OutOfFrame = Literal["keep", "clip", "refuse"]
"""What becomes of boxes that reach out of their frame: as they are, cut at its edges, or an error."""


class IncompleteClipError(DecodeError):
    """Some frames of a clip could not be read, the others could.

    Attributes:
        clip: the clip with the nearest readable frames in their places, see ``ClipInfo.unread``.
    """

    def __init__(self, message: str, clip: Clip) -> None:
        super().__init__(message)
        self.clip = clip


class TrainingVideos(ABC):
    """Videos to learn from: frames by index, as stored, without truth."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of videos."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Name of a video, unique and stable over runs."""

    @abstractmethod
    def length(self, index: int) -> int:
        """Frames of a video, at least 1."""

    @abstractmethod
    def frames(self, index: int, positions: Sequence[int]) -> npt.NDArray[np.uint8]:
        """Read frames.

        Args:
            index: of the video.
            positions: T frames in [0, length), ascending.

        Returns:
            (T, H, W, 3) uint8 RGB at the stored size.

        Raises:
            DecodeError: if they can't be read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the content: names and lengths at least, not of where files lie."""


@dataclass(frozen=True)
class TrainingImage:
    """A picture to learn from.

    Attributes:
        pixels: (H, W, 3) uint8 RGB.
        captions: what may truthfully be said of it, for recipes that learn from text; likelier ones
            first. Empty where nothing is known.
    """

    pixels: npt.NDArray[np.uint8]
    captions: tuple[str, ...] = ()


class TrainingImages(ABC):
    """Pictures to learn from."""

    @abstractmethod
    def __len__(self) -> int:
        """Number of pictures."""

    @abstractmethod
    def name(self, index: int) -> str:
        """Name of a picture, unique and stable over runs."""

    @abstractmethod
    def image(self, index: int) -> TrainingImage:
        """Read a picture.

        Raises:
            DecodeError: if it can't be read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the content: names at least, not of where files lie."""


@dataclass(frozen=True)
class FileIds:
    """The numbers that result files have for a dataset's videos, frames and classes.

    Attributes:
        videos: number to name.
        frames: number to the video's name and the position in it, from 0.
        classes: number to class id, from 1.
    """

    videos: Mapping[int, str]
    frames: Mapping[int, tuple[str, int]]
    classes: Mapping[int, int]


class Dataset(ABC):
    """Clips with or without truth, over one vocabulary.

    Attributes:
        vocabulary: the classes that truth and naming refer to.
        skipped: what the dataset left out, reason to count; part of every result's coverage.
        out_of_frame: what becomes of boxes of other programs' files that reach out of their frame.
    """

    vocabulary: Vocabulary
    skipped: Mapping[str, int]
    out_of_frame: OutOfFrame = "keep"

    @abstractmethod
    def __len__(self) -> int:
        """Number of clips."""

    @abstractmethod
    def info(self, index: int) -> ClipInfo:
        """Identity and truth of a clip, without reading pixels."""

    @abstractmethod
    def clip(self, index: int) -> Clip:
        """A clip with its pixels.

        Raises:
            IncompleteClipError: if some of its frames can't be read; it holds the clip with the others, which
                ``run --on-error skip`` takes.
            DecodeError: if its frames can't be read.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of the content, not of where or when it was stored: names, frame lists, truth, and frames.

        Of frames at least the sizes of their files, so that replaced ones are another dataset. Where frames
        may be missing, since scoring needs none, their hash follows that of the rest after a hyphen.
        """

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """(height, width) at which clips show frames of a size; by default their own.

        Protocols that compare boxes in the models' pixels ask for it where a file doesn't say.
        """
        return frame_size

    def with_short_videos(self) -> Dataset:
        """The dataset with videos that are too short for a clip as one shorter clip each.

        Detections of any program are scored on these: no model asks for clips of one length there.
        """
        return self

    def file_ids(self) -> FileIds:
        """The numbers that result files have for the dataset's content.

        By default videos, and frames over all videos, are numbered from 1 in the order of the clips, as lines
        of the ILSVRC's lists are, and classes as in the vocabulary.
        """
        own = in_order(self.info(index) for index in range(len(self)))
        videos = list(dict.fromkeys(info.video for info in own))
        frames = [(info.video, index) for info in own for index in info.frame_indices]
        classes = range(1, len(self.vocabulary.classes) + 1)
        return FileIds(
            dict(enumerate(videos, 1)), dict(enumerate(frames, 1)), {each: each for each in classes}
        )

    def training_videos(self) -> TrainingVideos:
        """The dataset's videos, to train on.

        Raises:
            SettingError: if it has none to offer.
        """
        raise SettingError(
            f"dataset {type(self).__name__} offers no videos to train on. Choose one that does "
            "(shapes, videos, imagenet-vid) with --dataset."
        )

    def training_images(self) -> TrainingImages:
        """The dataset's pictures, to train on.

        Raises:
            SettingError: if it has none to offer.
        """
        raise SettingError(
            f"dataset {type(self).__name__} offers no pictures to train on. Choose one that does "
            "(shapes, image-folder) with --dataset."
        )


def class_frequencies(dataset: Dataset) -> dict[str, int]:
    """Count boxes by class name, every class of the vocabulary listed, in its order.

    Frames that belong to an earlier clip aren't counted again.

    Args:
        dataset: with truth.

    Raises:
        DataError: if a clip has none.
    """
    found: Counter[int] = Counter()
    for info in map(dataset.info, range(len(dataset))):
        if info.truth is None:
            raise DataError(f"clip {info.id} has no truth to count. Choose a dataset or split with truth.")
        for frame in info.truth[info.context :]:
            found.update(frame.class_ids.tolist())
    return {item.name: found[class_id] for class_id, item in enumerate(dataset.vocabulary.classes, 1)}
