"""Drawing on images: masks, outlines, named boxes. Images are (height, width, 3) uint8 RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL.Image import Image as PillowImage
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

Image = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]
Color = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]

WHITE: Color = (255, 255, 255)
INK: Color = (30, 30, 34)
FAINT: Color = (110, 110, 118)
FONT_SIZE = 16

# Okabe and Ito's palette without black, told apart with every common colour blindness; ordered so
# that neighbours differ most. Further rounds are mixed with white, then with black.
_HUES: tuple[Color, ...] = (
    BLUE := (0, 114, 178),
    ORANGE := (230, 159, 0),
    GREEN := (0, 158, 115),
    RED := (213, 94, 0),
    SKY := (86, 180, 233),
    PINK := (204, 121, 167),
    YELLOW := (240, 228, 66),
)
_ROUNDS = ((0, 0.0), (255, 0.5), (0, 0.35))


@dataclass(frozen=True)
class NamedBox:
    """Box with the words on it.

    Attributes:
        corners: x1, y1, x2, y2 in pixels of the image, ends inclusive.
        text: its name, and a score where there is one.
        color: of the box and of the label's ground.
    """

    corners: Rectangle
    text: str
    color: Color


def color_of(index: int) -> Color:
    """Return the colour of a slot or class: the same index has the same in every picture.

    Args:
        index: from 0; colours repeat after 21.
    """
    hue = _HUES[index % len(_HUES)]
    ground, share = _ROUNDS[index // len(_HUES) % len(_ROUNDS)]
    red, green, blue = (round((1 - share) * value + share * ground) for value in hue)
    return red, green, blue


def ink_on(color: Color) -> Color:
    """Choose dark or white ink, whichever is read better on a colour."""
    red, green, blue = color
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else WHITE  # luma of Rec. 601


def fit(image: Image, size: tuple[int, int]) -> Image:
    """Resize a picture smoothly.

    Args:
        image: (H, W, 3).
        size: (height, width) of the output.
    """
    height, width = size
    method = cv2.INTER_AREA if width < image.shape[1] else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def enlarge(labels: npt.NDArray[np.integer], size: tuple[int, int]) -> Labels:
    """Resize a map of labels to (height, width), every pixel taking the label of the patch it lies in."""
    rows = np.arange(size[0]) * labels.shape[0] // size[0]
    columns = np.arange(size[1]) * labels.shape[1] // size[1]
    enlarged: Labels = labels.astype(np.int64)[rows[:, None], columns[None]]
    return enlarged


def faded(image: Image, brightness: float = 0.45) -> Image:
    """Darken a picture and take most of its colour, for what is not meant."""
    gray = image.mean(axis=2, keepdims=True)
    mixed: Image = np.clip(brightness * (0.25 * image + 0.75 * gray), 0, 255).astype(np.uint8)
    return mixed


def tinted(image: Image, labels: Labels, colors: npt.NDArray[np.uint8], strength: float) -> Image:
    """Mix every pixel with the colour of its label.

    Args:
        image: (H, W, 3).
        labels: (H, W) in [0, L).
        colors: (L, 3).
        strength: share of the colour in [0, 1].
    """
    return ((1 - strength) * image + strength * colors[labels]).astype(np.uint8)


def outlined(image: Image, labels: Labels, colors: npt.NDArray[np.uint8], width: int = 2) -> Image:
    """Draw a line wherever the label changes, in the colour of the higher label of the two.

    Args:
        image: (H, W, 3).
        labels: (H, W) in [0, L).
        colors: (L, 3).
        width: of the line in pixels, half on either side.
    """
    reach = np.ones((width, width), np.uint8)
    upper = cv2.dilate(labels.astype(np.float32), reach).astype(np.int64)
    lower = cv2.erode(labels.astype(np.float32), reach)
    lined: Image = np.where((upper > lower)[..., None], colors[upper], image)
    return lined


def with_boxes(image: Image, boxes: Sequence[NamedBox]) -> Image:
    """Draw boxes with labels; earlier boxes choose the places of their labels first."""
    picture, pen = _pen(image)
    # The first, which has the best score, is drawn last and lies on top.
    for box in reversed(boxes):
        x1, y1, x2, y2 = box.corners
        pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=INK, width=5)
        pen.rectangle(box.corners, outline=box.color, width=3)
    taken: list[Rectangle] = []
    for box in boxes:
        others = [other.corners for other in boxes if other is not box]
        taken.append(_place(box, taken, others, (image.shape[1], image.shape[0])))
        _write_chip(pen, taken[-1], box.text, box.color, FONT_SIZE)
    return np.asarray(picture)


def with_tag(image: Image, text: str) -> Image:
    """Write a small remark on dark ground into the lower left corner."""
    size = FONT_SIZE - 2
    width = font(size, bold=True).getlength(text) + 10
    place = (6.0, image.shape[0] - FONT_SIZE - 10.0, 6 + width, image.shape[0] - 6.0)
    picture, pen = _pen(image)
    _write_chip(pen, place, text, INK, size)
    return np.asarray(picture)


def with_text(
    image: Image,
    text: str,
    at: tuple[float, float],
    *,
    size: int = FONT_SIZE,
    color: Color = INK,
    anchor: str = "lm",
) -> Image:
    """Write one line.

    Args:
        image: (H, W, 3).
        text: what to write.
        at: x, y of the anchor in pixels.
        size: of the font in pixels.
        color: of the ink.
        anchor: Pillow's two letters; ``lm`` is left, middle.
    """
    picture, pen = _pen(image)
    pen.text(at, text, fill=color, font=font(size), anchor=anchor)
    return np.asarray(picture)


@cache
def font(size: int, *, bold: bool = False) -> FreeTypeFont:
    """Load DejaVu Sans, which ships with matplotlib and has every sign that class names may need."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def _pen(image: Image) -> tuple[PillowImage, ImageDraw]:
    from PIL import Image as Pictures
    from PIL import ImageDraw

    picture = Pictures.fromarray(image)
    return picture, ImageDraw.Draw(picture)


def _place(
    box: NamedBox, taken: Sequence[Rectangle], others: Sequence[Rectangle], size: tuple[int, int]
) -> Rectangle:
    """Choose the place of a label: at a corner of its box, off other labels, then off other boxes."""
    x1, y1, x2, y2 = box.corners
    width, height = font(FONT_SIZE, bold=True).getlength(box.text) + 10, FONT_SIZE + 6
    options = []
    for y in (y1 - height, y1, y2 - height, y2):
        for x in (x1 - 1, x2 - width + 1):
            left = min(max(x, 0), max(size[0] - width, 0))  # inside the picture
            top = min(max(y, 0), max(size[1] - height, 0))
            options.append((left, top, left + width, top + height))

    def hidden(option: Rectangle) -> tuple[float, float]:
        labels, boxes = (sum(overlap(option, each) for each in some) for some in (taken, others))
        return labels, boxes

    return min(options, key=hidden)


def overlap(one: Rectangle, other: Rectangle) -> float:
    """Return the area that two rectangles share, square pixels."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def _write_chip(pen: ImageDraw, place: Rectangle, text: str, ground: Color, size: int) -> None:
    pen.rounded_rectangle(place, radius=4, fill=ground)
    middle = (place[0] + 5, (place[1] + place[3]) / 2)
    pen.text(middle, text, fill=ink_on(ground), font=font(size, bold=True), anchor="lm")
