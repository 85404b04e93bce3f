"""Registers the datasets that come with the harness."""

from __future__ import annotations

from collections.abc import Iterator

from ovvol_bench.registry import Entry, hookimpl

_TRAIN = {"split": "train"}
_BY_PATH = {"path": None}
_BY_PATH_AND_SPLIT = {"path": None, "split": None}


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
        "ovvol_bench.data.imagenet_vid.dataset:open_imagenet_vid",
        "ImageNet-VID, or any tree in its layout, with truth",
        training=_TRAIN,
    )
    yield Entry(
        "image-folder",
        "ovvol_bench.data.image_folder:ImageFolder",
        "images in a folder a class, such as ImageNet-1k, without truth",
        training=_BY_PATH,
    )
    yield Entry(
        "movi",
        "ovvol_bench.data.movi:Movi",
        "MOVi as folders of frames and masks, converted from tfds, with truth",
        training=_TRAIN,
    )
    yield Entry(
        "shapes",
        "ovvol_bench.data.shapes.dataset:open_shapes",
        "rendered videos of textured objects that move and hide each other",
        training=_TRAIN,
    )
    yield Entry(
        "videos",
        "ovvol_bench.data.videos:VideoFiles",
        "a video file or a folder of them, without truth",
        training=_BY_PATH,
    )
    yield Entry(
        "youtube-vis",
        "ovvol_bench.data.json_videos:YoutubeVis",
        "YouTube-VIS 2019 or 2021, with boxes, masks and tracks",
        training={"path": None, "split": "videosaur-train"},
    )
