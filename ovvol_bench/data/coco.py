"""Dataset ``coco``: images with boxes and masks in COCO's format, each a video of one frame."""

from __future__ import annotations

from functools import partial

import numpy as np

from ovvol_bench.data.coco_vid import CocoVidSource, Images, annotations_of
from ovvol_bench.data.json_files import JsonFile
from ovvol_bench.data.json_videos import Annotations, JsonVideos, load_annotations
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.truth_index import VideoFrames
from ovvol_bench.data.video_splits import split_rows
from ovvol_bench.data.vocabularies import choose_vocabulary


def open_coco(source: CocoVidSource, split: str, vocabulary: str | None, clips: ClipSettings) -> JsonVideos:
    """Open all images of a file, or those that a list names.

    Args:
        source: where everything lies.
        split: ``all``, or a text file, see ``video_splits``.
        vocabulary: see ``choose_vocabulary``.
        clips: of one frame.

    Raises:
        DataError: if the file is missing or malformed; names the entry.
    """
    form = f"coco {source.form}"
    everything = load_annotations(source.path, source.cache, partial(parse_coco, source=source), form)
    rows = split_rows(split, everything.index.videos.tolist(), {}, source.path)
    words, class_of = choose_vocabulary(vocabulary, everything.category_names.tolist(), source.path.name)
    frames = source.frames or source.path.parent
    return JsonVideos(everything.of_videos(rows), frames, words, class_of, clips, source.out_of_frame)


def parse_coco(file: JsonFile, source: CocoVidSource) -> Annotations:
    """Columns of a file, images in the order of their ids, as pycocotools goes through them.

    An image is called as its file, or by its id where two have one file.

    Raises:
        DataError: if something is missing, unknown or repeated; names the entry.
    """
    images = Images.alone(file)
    names = images.column(images.section.files())
    if len(set(names)) < len(names):
        names = [str(number) for number in images.column(images.section.ids())]
    return annotations_of(file, images, [VideoFrames(name, np.zeros(1, np.int64)) for name in names], source)
