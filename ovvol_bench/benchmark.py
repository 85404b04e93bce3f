"""The two kinds of component without a network, a dataset and a metric: what makes a benchmark.

Apart from ``components`` so that data and metrics work without torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.detections import in_order
from ovvol_bench.errors import DecodeError, SettingError
from ovvol_bench.types import Clip, ClipInfo, Localization

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
        """What the video is called, unique and stable over runs."""

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
        """What the picture is called, unique and stable over runs."""

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


@dataclass(frozen=True)
class MetricValue:
    """One number of a result.

    Attributes:
        value: NaN where undefined (never 0 for "no data").
        count: what was averaged over (frames, objects or classes, as the metric documents).
        notes: further numbers that belong beside the value, by name.
        higher_is_better: direction; scoring sets it to the metric's.
    """

    value: float
    count: int
    notes: Mapping[str, Any]
    higher_is_better: bool = True


class Metric(ABC):
    """A pure function over localizations and truth, as a thin accumulator.

    Attributes:
        protocol: id of the exact conventions, for example ``vid-reference``.
        higher_is_better: direction, for ranking and bold print.
        averages: whether each number is a mean over its ``count``, so that the numbers of videos make that
            of all of them; such metrics get intervals.
        needs: what predictions and truth must hold beside boxes: ``classes``, ``probabilities`` (scores in
            [0, 1]), ``tracks``, ``masks``, ``slots``, ``true masks``, ``true tracks``. ``--metrics all``
            leaves out the metrics that lack something.
    """

    protocol: str
    needs: frozenset[str] = frozenset()
    higher_is_better: ClassVar[bool] = True
    averages: ClassVar[bool] = False

    @abstractmethod
    def update(self, localization: Localization, clip: ClipInfo) -> None:
        """Add one clip; writes to neither argument."""

    @abstractmethod
    def compute(self) -> Mapping[str, MetricValue]:
        """The metric's numbers so far, by name (one metric may yield several)."""
