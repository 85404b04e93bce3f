"""Dataset ``image-folder``: images in a folder a class, as ImageNet-1k is unpacked; clips of one frame."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from ovvol_bench.benchmark import Dataset, TrainingImage, TrainingImages
from ovvol_bench.data.cache import cache_folder
from ovvol_bench.data.class_names import Names, read_class_names
from ovvol_bench.data.image_index import ImageColumns, load_images
from ovvol_bench.data.readers import read_header, read_image
from ovvol_bench.data.transforms import Size, resize_frames, target_size
from ovvol_bench.errors import DataError, DecodeError
from ovvol_bench.files import in_utf8
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary, load_vocabulary, spoken
from ovvol_bench.registry import FromSize, Located
from ovvol_bench.types import Clip, ClipInfo


class FolderImages(TrainingImages):
    """Images as stored, with what their class is called.

    Args:
        root: that the names start from.
        images: from ``load_images``.
        captions: of every class, in the order of ``images.classes``.
    """

    def __init__(self, root: Path, images: ImageColumns, captions: Sequence[tuple[str, ...]]) -> None:
        self._root, self._images, self._captions = root, images, tuple(captions)

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        """See ``TrainingImages.name``: the path below the root."""
        return in_utf8(self._images.name(index))

    def image(self, index: int) -> TrainingImage:
        """See ``TrainingImages.image``."""
        pixels = read_image(self._root / self._images.name(index))
        return TrainingImage(pixels, self._captions[self._images.class_of(index)])

    def fingerprint(self) -> str:
        """Hash of all names and captions, and of the images as far as ``content_digest`` looks."""
        what = f"{self._images.fingerprint(self._root)} {self._captions}"
        return hashlib.sha256(what.encode()).hexdigest()


class ImageFolder(Dataset):
    """Images by class, in the order of their paths; ``truth`` is None.

    Args:
        root: holds a folder a class.
        images: from ``load_images``.
        names: of every class, in the order of ``images.classes``.
        vocabulary: names to look for, and the template of captions.
        size: short side and multiple of resized images, pixels.
    """

    def __init__(
        self,
        root: Path,
        images: ImageColumns,
        names: Sequence[Names],
        vocabulary: Vocabulary,
        size: tuple[int, int],
    ) -> None:
        target_size((1, 1), *size)  # complains about the numbers
        self.vocabulary = vocabulary
        self.skipped: Mapping[str, int] = images.skipped
        self._root, self._images, self._names, self._size = root, images, tuple(names), size

    def __len__(self) -> int:
        return len(self._images)

    def info(self, index: int) -> ClipInfo:
        """See ``Dataset.info``; a clip's id is the image's path, its size 1 x 1 where it can't be read."""
        try:
            size = read_header(self._root / self._images.name(index)).size
        except DecodeError:  # raised by `clip`, so that it costs one clip and not the dataset
            size = (1, 1)
        return self._info(index, size)

    def input_size(self, frame_size: tuple[int, int]) -> tuple[int, int]:
        """See ``Dataset.input_size``: by ``short_side`` and ``multiple``."""
        return target_size(frame_size, *self._size)

    def clip(self, index: int) -> Clip:
        """See ``Dataset.clip``."""
        pixels = read_image(self._root / self._images.name(index))
        height, width = pixels.shape[:2]
        info = self._info(index, (height, width))
        return Clip(info, resize_frames([pixels], self.input_size(info.frame_size), 1))

    def fingerprint(self) -> str:
        """Hash of names, vocabulary and size, and of the images as far as ``content_digest`` looks."""
        what = f"{self._images.fingerprint(self._root)} {self.vocabulary.names} {self._size}"
        return hashlib.sha256(what.encode()).hexdigest()

    def training_images(self) -> FolderImages:
        """All images; every name of a class, in the vocabulary's first template, is a caption."""
        template = self.vocabulary.templates[0]
        captions = [tuple(template % spoken(name) for name in names) for names in self._names]
        return FolderImages(self._root, self._images, captions)

    def _info(self, index: int, size: Size) -> ClipInfo:
        name = in_utf8(self._images.name(index))
        return ClipInfo(id=name, video=name, frame_indices=(0,), frame_size=size)


def open_image_folder(
    *,
    path: Annotated[Path, Located],
    names: Annotated[Path | None, Located] = None,
    vocabulary: str | None = None,
    short_side: Annotated[int, FromSize("short_side")] = 224,
    multiple: Annotated[int, FromSize("multiple")] = 16,
    cache: Annotated[str | None, Located] = None,
) -> ImageFolder:
    """Open images in a folder a class, as ImageNet-1k is unpacked: to train on, or as clips without truth.

    Args:
        path: folder of the classes' folders; images may lie deeper in them.
        names: what the folders' classes are called: lines "n01440764 tench, Tinca tinca", or JSON; none: as
            in the vocabulary, or as their folders. Captions are made of all names.
        vocabulary: names to look for, built-in or path of a .yaml file; none: the classes of the folders.
        short_side: of resized images, pixels.
        multiple: what both sides are multiples of, pixels.
        cache: folder for the list of images; none: the user's cache folder.
    """
    words = load_vocabulary(vocabulary) if vocabulary is not None else None
    known = read_class_names(names) if names is not None else None
    images = load_images(path, cache_folder(cache))
    classes = images.classes.tolist()
    called = names_of_classes(classes, known, words)
    return ImageFolder(
        path, images, called, words or vocabulary_of(path, classes, called), (short_side, multiple)
    )


def names_of_classes(
    classes: Sequence[str], known: Mapping[str, Names] | None, vocabulary: Vocabulary | None
) -> list[Names]:
    """What the classes of an image folder are called.

    Args:
        classes: names of their folders.
        known: names by folder, see ``class_names``; None: not given.
        vocabulary: whose codes or names may be those of the folders; asked where ``known`` is None.

    Returns:
        Names of every class; its folder's where nothing else is known.

    Raises:
        DataError: if ``known`` lacks a class.
    """
    if known is not None:
        if missing := [name for name in classes if name not in known]:
            raise DataError(
                f"dataset.names lacks {len(missing)} of {len(classes)} classes, first: '{missing[0]}'. Add "
                "them, or leave dataset.names out: then classes are called as their folders are."
            )
        return [known[name] for name in classes]
    words = vocabulary.classes if vocabulary is not None else ()
    by_key = {key: (item.name, *item.synonyms) for item in words for key in (item.name, item.code)}
    return [by_key.get(name, (in_utf8(name),)) for name in classes]


def vocabulary_of(root: Path, classes: Sequence[str], names: Sequence[Names]) -> Vocabulary:
    """The classes of an image folder as a vocabulary; a name that several have is told apart by the folder.

    Args:
        root: holds the folders, for messages.
        classes: names of their folders.
        names: of every class.

    Raises:
        DataError: if two classes still have the same name, or a name holds control characters.
    """
    times = Counter(spoken(own[0]).casefold() for own in names)
    foreground = (
        ForegroundClass(
            own[0] if times[spoken(own[0]).casefold()] == 1 else f"{own[0]} ({folder})", code=folder
        )
        for folder, own in zip(map(in_utf8, classes), names, strict=True)
    )
    try:
        return Vocabulary("image-folder", tuple(foreground))
    except DataError as error:
        raise DataError(f"{root}: its folders are no classes ({error})") from None
