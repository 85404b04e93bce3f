"""Files of an ILSVRC-VID tree, and lists that choose among them.

::

    ROOT/Data/VID/SPLIT/VIDEO/000000.JPEG          frames, numbered from 0
    ROOT/Annotations/VID/SPLIT/VIDEO/000000.xml    truth of a frame
    ROOT/ImageSets/VID/SPLIT.txt                   lists
    ROOT/Masks/VID/SPLIT/VIDEO/000000.png          masks of a frame's objects; "data make shapes" writes them

Frames may also end in .jpg, .jpeg or .png, and have other numbers of digits, the same in the whole split.

Lists come in four layouts, told apart by their lines:

* ``videos``: one line a video, ``val/VIDEO 1 0 464``: path, running number, first frame, frames.
* ``frames``: one line a frame, ``val/VIDEO 1 0 464``: path, running number, frame, frames of the video;
  the layout is this one where a path occurs twice. Lines of a video that follow each other are neighbours.
* ``images``: ``VIDEO/000000`` with or without a running number, as in the devkit's ``val.txt``.
* ``folders``: ``VIDEO`` with or without a flag: all frames of these folders.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ovvol_bench.data.readers import IMAGE_SUFFIXES
from ovvol_bench.errors import DataError
from ovvol_bench.files import read_text

FRAME_SUFFIX = ".JPEG"
DIGITS = 6
"""Of ImageNet-VID's frames."""

ANNOTATION_SUFFIX = ".xml"

Line = tuple[str, ...]


@dataclass(frozen=True)
class VidTree:
    """Folders of a tree, and names of the files in them.

    Attributes:
        frames: holds the folders of the splits with their videos.
        annotations: the same for XML files.
        lists: holds list files.
        split: ``train``, ``val`` or another folder in ``frames``.
        masks: the same as ``frames`` for PNG files, 0 where no object is, else 1 + track id; not all trees
            have it.
        suffix: that frames end in.
        digits: that their numbers have at least, filled up with zeros.
    """

    frames: Path
    annotations: Path
    lists: Path
    split: str
    masks: Path | None = None
    suffix: str = FRAME_SUFFIX
    digits: int = DIGITS

    def frame(self, video: str, number: int) -> Path:
        """Path of a frame."""
        return self.frames / video / f"{number:0{self.digits}d}{self.suffix}"

    def frame_numbers(self, video: str) -> list[int]:
        """Numbers of the frames in a video's folder, in any order; none where there is no such folder.

        Raises:
            DataError: if an image there is named in another way than the split's first frame.
        """
        names = list_names(self.frames / video)
        numbers = numbers_in(names, self.suffix, self.digits)
        if others := self.other_images(names, len(numbers)):
            raise DataError(
                f"{self.frames / video} has {len(others)} images that are not named as the split's first "
                f"frame ({0:0{self.digits}d}{self.suffix}), first: {others[0]}. Name all frames alike."
            )
        return numbers

    def other_images(self, names: Sequence[str], frames: int) -> list[str]:
        """Names of images that are no frames by their name, if there are more images than ``frames``."""
        images = [name for name in names if Path(name).suffix.lower() in IMAGE_SUFFIXES]
        if len(images) == frames:
            return []
        return [name for name in sorted(images) if not numbers_in([name], self.suffix, self.digits)]


def find_tree(root: Path, split: str) -> VidTree:
    """Find the tree at ``root``, in ``root/ILSVRC`` or ``root/ILSVRC2015``, with or without ``VID`` folders.

    Raises:
        DataError: if there is no such tree.
    """
    tree = tree_at(root, split)
    if tree is None:
        raise DataError(
            f"{root} is no ImageNet-VID tree with a split '{split}': expected the folder "
            f"{root / 'Data' / 'VID' / split}. Set dataset.path to the folder that holds Data, Annotations "
            "and ImageSets."
        )
    return tree


def tree_at(root: Path, split: str) -> VidTree | None:
    """Find a tree as ``find_tree`` does; None if there is none."""
    bases = (root, root / "ILSVRC", root / "ILSVRC2015")
    places = ((base, inner) for base in bases for inner in ("VID", ""))
    found = next(((base, inner) for base, inner in places if (base / "Data" / inner / split).is_dir()), None)
    if found is None:
        return None
    frames, annotations, lists, masks = (
        found[0] / part / found[1] for part in ("Data", "Annotations", "ImageSets", "Masks")
    )
    suffix, digits = FRAME_SUFFIX, DIGITS
    # the first folder with frames tells how those of the split are named
    for _, below, files in os.walk(frames / split):
        below.sort()
        images = sorted(Path(file) for file in files if Path(file).suffix.lower() in IMAGE_SUFFIXES)
        if numbered := [image for image in images if image.stem.isdecimal()]:
            suffix, digits = numbered[0].suffix, min(len(image.stem) for image in numbered)
            break
    return VidTree(
        frames, annotations, lists, split, masks if (masks / split).is_dir() else None, suffix, digits
    )


@dataclass(frozen=True)
class ListedVideo:
    """A video that a list asks for.

    Attributes:
        name: path under the tree's frames, for example ``val/ILSVRC2015_val_00000000``.
        numbers: of the frames; None asks for all in the folder.
    """

    name: str
    numbers: tuple[int, ...] | None


@dataclass(frozen=True)
class VideoList:
    """Videos to read from a tree, and the list that names them.

    Attributes:
        layout: ``videos``, ``frames``, ``images``, ``folders``, or ``none`` without a list.
        source: the list file, or None.
        videos: in the list's order.
    """

    layout: str
    source: Path | None
    videos: tuple[ListedVideo, ...]


def read_videos(tree: VidTree, source: Path | None = None) -> VideoList:
    """Read a list; without one the tree's own of the split's name, else every folder with frames.

    Raises:
        DataError: if the list can't be read, is empty, has a line of an unknown layout, or points
            outside the tree; names file and line.
    """
    source = source or _standard_list(tree)
    if source is None:
        return VideoList("none", None, tuple(ListedVideo(name, None) for name in video_folders(tree)))
    lines = _read_lines(source)
    layout = _layout(lines, source, tree.digits)
    if layout == "videos":
        spans = [(line[0], int(line[2]), int(line[3])) for line in lines]
        if empty := [name for name, _, count in spans if count == 0]:
            raise DataError(
                f"List {source} has the video '{empty[0]}' with 0 frames. Leave empty videos out."
            )
        videos = [ListedVideo(name, tuple(range(first, first + count))) for name, first, count in spans]
    elif layout == "frames":
        videos = _grouped(((line[0], int(line[2])) for line in lines), source)
    elif layout == "images":
        paths = (_parent_and_name(line[0]) for line in lines)
        videos = _grouped(((parent, int(name)) for parent, name in paths), source)
    else:
        name, count = Counter(line[0] for line in lines).most_common(1)[0]
        if count > 1:
            raise DataError(f"List {source} has the video '{name}' {count} times. List every video once.")
        videos = [ListedVideo(line[0], None) for line in lines]
    resolved = tuple(ListedVideo(_resolve(tree, video.name), video.numbers) for video in videos)
    return VideoList(layout, source, resolved)


def read_names(tree: VidTree, source: Path | None = None) -> tuple[str, ...]:
    """Names of the videos that a list mentions, each once, whatever it says of their frames.

    Raises:
        DataError: see ``read_videos``; repetitions are allowed.
    """
    source = source or _standard_list(tree)
    if source is None:
        return tuple(video_folders(tree))
    lines = _read_lines(source)
    of_images = _layout(lines, source, tree.digits) == "images"
    listed = dict.fromkeys(_parent_and_name(line[0])[0] if of_images else line[0] for line in lines)
    return tuple(dict.fromkeys(_resolve(tree, name) for name in listed))


def _standard_list(tree: VidTree) -> Path | None:
    standard = tree.lists / f"{tree.split}.txt"
    return standard if standard.is_file() else None


def video_folders(tree: VidTree, with_empty: bool = False) -> list[str]:
    """Names of all folders of the split that hold frames, sorted.

    Args:
        tree: where to look.
        with_empty: add folders that hold no folder and no frame, which ought to be videos.
    """
    return _folders(tree.frames, tree.split, IMAGE_SUFFIXES, with_empty)


def annotation_folders(tree: VidTree) -> list[str]:
    """Names of all folders of the split that hold annotations, sorted."""
    return _folders(tree.annotations, tree.split, {ANNOTATION_SUFFIX})


def list_names(folder: Path) -> list[str]:
    """Names in a folder, in any order; none for a folder that isn't there."""
    return os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 - names are enough


def numbers_in(names: Iterable[str], suffix: str, digits: int) -> list[int]:
    """Numbers of files by their names: decimals with at least so many digits, and the suffix."""
    stems = (name.removesuffix(suffix) for name in names if name.endswith(suffix))
    return [int(stem) for stem in stems if _is_number(stem, digits)]


def _is_number(stem: str, digits: int) -> bool:
    # ImageNet-VID's six digits are never exceeded; a longer number is a video's name
    longer = len(stem) > digits and stem[0] != "0" and digits < DIGITS
    return stem.isdecimal() and (len(stem) == digits or longer)


def _folders(base: Path, split: str, suffixes: Collection[str], with_empty: bool = False) -> list[str]:
    # the whole tree is walked: train's videos lie one level deeper than val's
    return sorted(
        Path(folder).relative_to(base).as_posix()
        for folder, below, files in os.walk(base / split)
        if any(Path(file).suffix.lower() in suffixes for file in files) or (with_empty and not below)
    )


def _read_lines(source: Path) -> list[Line]:
    try:
        text = read_text(source)
    except (OSError, ValueError) as error:
        raise DataError(
            f"List {source} can't be read ({error}). Set dataset.list to a text file, one "
            "video or frame a line."
        ) from error
    lines = [tuple(line.split()) for line in text.replace("\\", "/").splitlines()]
    if not any(lines):
        raise DataError(f"List {source} is empty: expected one video or frame a line.")
    for number, line in enumerate(lines, 1):
        if line:
            _check_line(line, f"List {source}, line {number}")
    return [line for line in lines if line]


def _check_line(line: Line, where: str) -> None:
    if line[0].startswith("/") or ".." in line[0].split("/"):
        raise DataError(
            f"{where} points outside the dataset: '{line[0]}'. Write paths below the folder of frames."
        )
    if len(line) not in (1, 2, 4) or (len(line) == 4 and not all(item.isdecimal() for item in line[1:])):
        raise DataError(
            f"{where} has an unknown layout: '{' '.join(line)}'. Expected 'VIDEO number first frames' or "
            "'VIDEO number frame frames', 'VIDEO/FRAME [number]', or 'VIDEO [flag]'."
        )


def _layout(lines: Sequence[Line], source: Path, digits: int) -> str:
    widths = {len(line) for line in lines}
    if len(widths) > 1:
        raise DataError(f"List {source} mixes lines of {sorted(widths)} columns: expected one layout.")
    if widths == {4}:
        return "frames" if len({line[0] for line in lines}) < len(lines) else "videos"
    of_images = all(_is_number(_parent_and_name(line[0])[1], digits) for line in lines)
    return "images" if of_images else "folders"


def _parent_and_name(path: str) -> tuple[str, str]:
    # Lists have a line a frame, and pathlib takes longer for one than all the rest.
    parent, _, name = path.rstrip("/").rpartition("/")
    return parent or ".", name


def _grouped(frames: Iterable[tuple[str, int]], source: Path) -> list[ListedVideo]:
    videos: dict[str, list[int]] = {}
    for name, number in frames:
        videos.setdefault(name, []).append(number)
    for name, numbers in videos.items():
        if len(set(numbers)) < len(numbers):
            raise DataError(f"List {source} has a frame of the video '{name}' twice. List every frame once.")
    return [ListedVideo(name, tuple(numbers)) for name, numbers in videos.items()]


def _resolve(tree: VidTree, name: str) -> str:
    """Path of a video below the frames; lists name it with or without the split in front."""
    name = str(PurePosixPath(name))
    with_split = f"{tree.split}/{name}"
    if (tree.frames / with_split).is_dir() or name.split("/")[0] != tree.split:
        return name if (tree.frames / name).is_dir() else with_split
    return name
