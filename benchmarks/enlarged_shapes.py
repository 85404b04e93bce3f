"""The shapes dataset with frames and boxes four times as large, so that reading has to shrink them.

python benchmarks/enlarged_shapes.py OUT [VIDEOS]
ovvol-bench run --plugin benchmarks/enlarged_shapes.py --dataset enlarged-shapes -o dataset.path=OUT
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import cv2

from ovvol_bench import Entry, hookimpl
from ovvol_bench.data.base import Dataset
from ovvol_bench.data.cache import cache_folder
from ovvol_bench.data.imagenet_vid.dataset import ImageNetVid
from ovvol_bench.data.imagenet_vid.tree import find_tree
from ovvol_bench.data.sampling import ClipSettings
from ovvol_bench.data.shapes.storage import write_split
from ovvol_bench.data.shapes.world import HEIGHT, shapes_vocabulary

TIMES = 4
SCALED = ("width", "height", "xmin", "ymin")
ENDS = ("xmax", "ymax")  # inclusive


def build(*, path: Path, scale_at_decode: bool = False) -> Dataset:
    """Clips at the size of the shapes dataset."""
    clips = ClipSettings(short_side=HEIGHT, scale_at_decode=scale_at_decode)
    return ImageNetVid(find_tree(path, "test"), shapes_vocabulary(), clips, cache_folder(None))


@hookimpl
def ovvol_datasets() -> Iterator[Entry]:
    """The enlarged dataset."""
    yield Entry("enlarged-shapes", build, "the test split of shapes, enlarged by this script")


def main(out: str, videos: str = "50") -> None:
    """Write the split ``test``."""
    root = Path(out)
    for name in write_split(root, "test", int(videos)):
        for frame in (root / "Data/VID/test" / name).iterdir():
            pixels = cv2.imread(str(frame))
            larger = cv2.resize(pixels, None, fx=TIMES, fy=TIMES, interpolation=cv2.INTER_CUBIC)
            cv2.imwrite(str(frame), larger, [cv2.IMWRITE_JPEG_QUALITY, 95])
        for annotation in (root / "Annotations/VID/test" / name).iterdir():
            _enlarge(annotation)
    shutil.rmtree(root / "Masks")


def _enlarge(annotation: Path) -> None:
    tree = ET.parse(annotation)
    for element in tree.iter():
        if element.tag in SCALED:
            element.text = str(int(element.text) * TIMES)
        elif element.tag in ENDS:
            element.text = str(int(element.text) * TIMES + TIMES - 1)
    tree.write(annotation)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
