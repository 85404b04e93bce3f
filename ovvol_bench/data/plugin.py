"""Registers the datasets that come with the harness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ovvol_bench.registry import ClipLength, Entry, FromSize, Located, hookimpl

if TYPE_CHECKING:
    from ovvol_bench.benchmark import Dataset

_TRAIN = {"split": "train"}
_BY_PATH = {"path": None}
_BY_PATH_AND_SPLIT = {"path": None, "split": None}


def build_imagenet_vid(  # noqa: PLR0913 - settings
    *,
    path: Annotated[Path, Located],
    split: str = "val",
    list: Annotated[Path | None, Located] = None,
    vocabulary: str = "imagenet-vid",
    classes: tuple[str, ...] | None = None,
    frames_per_clip: Annotated[int, ClipLength] = 8,
    sampling: Literal["all", "reference"] = "all",
    short_side: Annotated[int, FromSize("short_side")] = 224,
    multiple: Annotated[int, FromSize("multiple")] = 16,
    scale_at_decode: bool = False,
    motion_iou: str = "tracks",
    cache: Annotated[str | None, Located] = None,
) -> Dataset:
    """Frames and truth in the ILSVRC-VID layout, or the mp4s that "data prepare" makes of it for training.

    Training takes all frames of every video and reads no annotations; without a tree at path, it takes the
    mp4s that the list names (./train/VIDEO.mp4 0, a label may follow). Those have no truth.

    Args:
        path: folder with Data, Annotations and ImageSets; or with SPLIT.csv and the mp4s that it names.
        split: folder in Data/VID; or the name before .csv.
        list: text file, one video or one frame a line (layout is detected); none: the split's own, or all.
        vocabulary: built-in name or a .yaml file, whose codes or names are those in the annotations' <name>.
        classes: names or codes to keep, separated by commas; none: all.
        frames_per_clip: frames in a clip.
        sampling: all covers every frame, reference drops the ends of videos as the paper's code does.
        short_side: of resized frames, pixels.
        multiple: what both sides are multiples of, pixels.
        scale_at_decode: let the decoder scale: quicker, but other pixels than the reference's.
        motion_iou: tracks, or a .mat file in FGFA's format.
        cache: folder for parsed annotations and frame counts; none: the user's cache folder.
    """
    from ovvol_bench.data.cache import cache_folder
    from ovvol_bench.data.imagenet_vid import ImageNetVid, VidSource, restrict
    from ovvol_bench.data.sampling import ClipSettings
    from ovvol_bench.data.vid_tree import find_tree, tree_at
    from ovvol_bench.data.video_lists import prepared_videos
    from ovvol_bench.data.videos import Decoding, Videos
    from ovvol_bench.naming.vocabulary import load_vocabulary

    words, folder = restrict(load_vocabulary(vocabulary), classes), cache_folder(cache)
    clips = ClipSettings(frames_per_clip, sampling, 1, short_side, multiple, scale_at_decode)
    files = None if tree_at(path, split) else prepared_videos(path, split, list)
    if files is not None:
        return Videos(files, words, clips, Decoding(folder))
    motion = None if motion_iou == "tracks" else Path(motion_iou)
    return ImageNetVid(VidSource(find_tree(path, split), folder, list, motion), words, clips)


def build_videos(  # noqa: PLR0913 - settings
    *,
    path: Annotated[Path, Located],
    vocabulary: str = "imagenet-vid",
    frames_per_clip: Annotated[int, ClipLength] = 8,
    stride: int = 1,
    short_side: Annotated[int, FromSize("short_side")] = 224,
    multiple: Annotated[int, FromSize("multiple")] = 16,
    backend: Literal["auto", "decord", "pyav", "opencv"] = "auto",
    timeout: float = 60.0,
    scale_at_decode: bool = False,
    cache: Annotated[str | None, Located] = None,
) -> Dataset:
    """Video files without truth: localizations, overlays and training, no metrics.

    Args:
        path: a video file, or a folder of them.
        vocabulary: name of a built-in vocabulary, or path of a .yaml file.
        frames_per_clip: frames in a clip.
        stride: every n-th frame is used.
        short_side: of resized frames, pixels.
        multiple: what both sides are multiples of, pixels.
        backend: tried first; others take over where it can't decode a file, or shows other frames than a
            player; auto: decord, pyav, opencv.
        timeout: seconds that one clip may take to decode.
        scale_at_decode: let the decoder scale: quicker, but other pixels than the reference's.
        cache: folder for frame counts; none: the user's cache folder.
    """
    from ovvol_bench.data.videos import open_videos
    from ovvol_bench.naming.vocabulary import load_vocabulary

    return open_videos(
        path,
        load_vocabulary(vocabulary),
        frames_per_clip=frames_per_clip,
        stride=stride,
        short_side=short_side,
        multiple=multiple,
        backend=backend,
        timeout=timeout,
        scale_at_decode=scale_at_decode,
        cache=cache,
    )


def build_image_folder(
    *,
    path: Annotated[Path, Located],
    names: Annotated[Path | None, Located] = None,
    vocabulary: str | None = None,
    short_side: Annotated[int, FromSize("short_side")] = 224,
    multiple: Annotated[int, FromSize("multiple")] = 16,
    cache: Annotated[str | None, Located] = None,
) -> Dataset:
    """Images in a folder a class, as ImageNet-1k is unpacked: to train on, or as clips without truth.

    Args:
        path: folder of the classes' folders; images may lie deeper in them.
        names: what the folders' classes are called: lines "n01440764 tench, Tinca tinca", or JSON; none: as
            in the vocabulary, or as their folders. Captions are made of all names.
        vocabulary: names to look for, built-in or path of a .yaml file; none: the classes of the folders.
        short_side: of resized images, pixels.
        multiple: what both sides are multiples of, pixels.
        cache: folder for the list of images; none: the user's cache folder.
    """
    from ovvol_bench.data.cache import cache_folder
    from ovvol_bench.data.class_names import read_class_names
    from ovvol_bench.data.image_folder import ImageFolder, names_of_classes, vocabulary_of
    from ovvol_bench.data.image_index import load_images
    from ovvol_bench.naming.vocabulary import load_vocabulary

    words = load_vocabulary(vocabulary) if vocabulary is not None else None
    known = read_class_names(names) if names is not None else None
    images = load_images(path, cache_folder(cache))
    classes = images.classes.tolist()
    called = names_of_classes(classes, known, words)
    return ImageFolder(
        path, images, called, words or vocabulary_of(path, classes, called), (short_side, multiple)
    )


def build_movi(  # noqa: PLR0913 - settings
    *,
    path: Annotated[Path, Located],
    split: str = "validation",
    list: Annotated[Path | None, Located] = None,
    vocabulary: str | None = None,
    frames_per_clip: Annotated[int, ClipLength] = 8,
    sampling: Literal["all", "reference"] = "all",
    stride: int = 1,
    short_side: Annotated[int, FromSize("short_side")] = 224,
    multiple: Annotated[int, FromSize("multiple")] = 16,
    cache: Annotated[str | None, Located] = None,
) -> Dataset:
    """MOVi as folders, which "ovvol-bench data convert movi" writes: boxes, masks and tracks.

    Args:
        path: folder that holds a folder a split.
        split: name of the folder with a folder a video.
        list: .txt file with a video a line; none: all.
        vocabulary: object (one class), a built-in name or a .yaml file; none: the categories of the videos.
        frames_per_clip: frames in a clip; MOVi has 24 a video.
        sampling: all covers every frame, reference drops the ends of videos as the paper's code does.
        stride: every n-th frame is used.
        short_side: of resized frames, pixels.
        multiple: what both sides are multiples of, pixels.
        cache: folder for truth read from the masks; none: the user's cache folder.
    """
    from ovvol_bench.data.cache import cache_folder
    from ovvol_bench.data.movi import MoviSource, open_movi
    from ovvol_bench.data.sampling import ClipSettings

    clips = ClipSettings(frames_per_clip, sampling, stride, short_side, multiple)
    return open_movi(MoviSource(path, split, cache_folder(cache), list), vocabulary, clips)


@hookimpl
def ovvol_datasets() -> Iterator[Entry]:
    """The datasets."""
    yield Entry(
        "coco",
        "ovvol_bench.data.json_videos:Coco",
        "images in COCO's format, each a video of one frame, with truth",
        training=_BY_PATH_AND_SPLIT,
    )
    yield Entry(
        "coco-vid",
        "ovvol_bench.data.json_videos:CocoVid",
        "a JSON in COCO's format for videos, as of MMTracking, with truth",
        training=_BY_PATH_AND_SPLIT,
    )
    yield Entry(
        "imagenet-vid",
        build_imagenet_vid,
        "ImageNet-VID, or any tree in its layout, with truth",
        training=_TRAIN,
    )
    yield Entry(
        "image-folder",
        build_image_folder,
        "images in a folder a class, such as ImageNet-1k, without truth",
        training=_BY_PATH,
    )
    yield Entry(
        "movi",
        build_movi,
        "MOVi as folders of frames and masks, converted from tfds, with truth",
        training=_TRAIN,
    )
    yield Entry(
        "shapes",
        "ovvol_bench.data.shapes.dataset:open_shapes",
        "rendered videos of textured objects that move and hide each other",
        training=_TRAIN,
    )
    yield Entry("videos", build_videos, "a video file or a folder of them, without truth", training=_BY_PATH)
    yield Entry(
        "youtube-vis",
        "ovvol_bench.data.json_videos:YoutubeVis",
        "YouTube-VIS 2019 or 2021, with boxes, masks and tracks",
        training={"path": None, "split": "videosaur-train"},
    )
