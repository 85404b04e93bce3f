"""The five views of one frame: frame, slots, kept slots, named boxes, truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ovvol_bench.report.drawing import (
    FAINT,
    INK,
    Image,
    NamedBox,
    color_of,
    enlarge,
    faded,
    fit,
    outlined,
    tinted,
    with_boxes,
    with_tag,
    with_text,
)
from ovvol_bench.types import FrameTruth, Localization

TITLES = ("frame", "slots", "kept slots", "named boxes", "truth")
_SMALLEST, _LARGEST = 320, 480
_GAP, _HEAD, _FOOT = 8, 34, 30


@dataclass(frozen=True)
class View:
    """Frame with all that is known of it.

    Attributes:
        picture: the frame, already as large as a panel.
        index: position of the frame in the video, from 0.
        step: its row in ``localization``.
        localization: of its clip.
        frame_size: (height, width) of the original frame, which boxes refer to.
        truth: its true objects, or None.
        class_names: in the order of class ids, from 1.
    """

    picture: Image
    index: int
    step: int
    localization: Localization
    frame_size: tuple[int, int]
    truth: FrameTruth | None
    class_names: Sequence[str]

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of a panel."""
        return self.picture.shape[0], self.picture.shape[1]


def panel_size(frame_size: tuple[int, int]) -> tuple[int, int]:
    """Return (height, width) of a panel: the frame's shape, 320 to 480 pixels wide.

    >>> panel_size((96, 128)), panel_size((1080, 1920))
    ((240, 320), (270, 480))
    """
    height, width = frame_size
    panel_width = min(max(width, _SMALLEST), _LARGEST)
    return round(panel_width * height / width), panel_width


def panels(view: View) -> list[Image]:
    """Draw the views of a frame in the order of ``TITLES``, the last only where there is truth."""
    frame = with_tag(view.picture, f"frame {view.index}")
    drawn = [frame, slots_panel(view), kept_panel(view), boxes_panel(view)]
    return drawn if view.truth is None else [*drawn, truth_panel(view)]


def slots_panel(view: View) -> Image:
    """Paint every slot in a colour of its own."""
    localization = view.localization
    slots = enlarge(localization.slot_map[view.step], view.size)
    colors = np.array([color_of(slot) for slot in range(len(localization.segment_of_slot))], dtype=np.uint8)
    lines = np.full_like(colors, 255)
    return outlined(tinted(faded(view.picture, 1.0), slots, colors, 0.6), slots, lines)


def kept_panel(view: View) -> Image:
    """Tint segments by class; dropped slots are dark."""
    localization = view.localization
    segments = localization.segment_of_slot[localization.slot_map[view.step]]
    kept = enlarge(segments + 1, view.size)  # dropped ones are -1
    classes = best_classes(localization)
    colors = np.array([(0, 0, 0), *(color_of(each - 1) for each in classes)], dtype=np.uint8)
    lit = np.where(kept[..., None] > 0, tinted(view.picture, kept, colors, 0.3), faded(view.picture))
    return outlined(lit, kept, colors, width=6)


def boxes_panel(view: View) -> Image:
    """Draw a box a segment, with the name and score of its best class, best score first."""
    localization = view.localization
    scores = localization.probabilities[:, 1:].max(axis=1, initial=0)
    classes = best_classes(localization)
    present = np.flatnonzero(localization.present[view.step]).tolist()
    boxes = [
        NamedBox(
            corners=_to_panel(localization.boxes[view.step, segment], view),
            text=f"{view.class_names[classes[segment] - 1]} {scores[segment]:.2f}",
            color=color_of(classes[segment] - 1),
        )
        for segment in sorted(present, key=lambda segment: -scores[segment])
    ]
    return with_boxes(view.picture, boxes)


def truth_panel(view: View) -> Image:
    """Draw the true boxes in the colours of their classes."""
    truth = view.truth
    if truth is None:
        return view.picture
    boxes = [
        NamedBox(_to_panel(box, view), view.class_names[class_id - 1], color_of(class_id - 1))
        for box, class_id in zip(truth.boxes, truth.class_ids.tolist(), strict=True)
    ]
    return with_boxes(view.picture, boxes)


def objects_picture(
    pixels: Image,
    boxes: np.ndarray,
    texts: Sequence[str],
    colors: Sequence[int],
    masks: np.ndarray | None,
    width: int,
) -> Image:
    """Draw named objects on a frame.

    Args:
        pixels: (H, W, 3), the frame.
        boxes: (N, 4), pixels of the frame, ends inclusive; the first are named first.
        texts: (N,) written on the boxes.
        colors: (N,) as of ``color_of``.
        masks: (N, H, W) bool, drawn where they are given.
        width: of the picture, pixels.
    """
    frame_size = pixels.shape[0], pixels.shape[1]
    size = max(1, round(width * frame_size[0] / frame_size[1])), width
    picture, inks = fit(pixels, size), [color_of(each) for each in colors]
    if masks is not None and len(masks):
        labels = enlarge((masks * np.arange(1, len(masks) + 1)[:, None, None]).max(axis=0), size)
        shades = np.array([(0, 0, 0), *inks], dtype=np.uint8)
        lit = np.where(labels[..., None] > 0, tinted(picture, labels, shades, 0.35), picture)
        picture = outlined(lit, labels, shades)
    scale, last = [size[1] / frame_size[1], size[0] / frame_size[0]] * 2, np.array([0, 0, 1, 1])
    corners = ((boxes + last) * scale - last).tolist()  # ends are inclusive in both sizes
    named = [
        NamedBox((x1, y1, x2, y2), text, ink)
        for (x1, y1, x2, y2), text, ink in zip(corners, texts, inks, strict=True)
    ]
    return with_boxes(picture, named)


def best_classes(localization: Localization) -> list[int]:
    """Return the id, from 1, of the foreground class that each segment most likely shows."""
    classes: list[int] = (localization.probabilities[:, 1:].argmax(axis=1) + 1).tolist()
    return classes


def sheet(rows: Sequence[Sequence[Image]], caption: str) -> Image:
    """Set rows of panels on white, with the titles above and a caption below.

    Args:
        rows: of equally many panels of one size.
        caption: one line.
    """
    height, width = rows[0][0].shape[:2]
    across, down = len(rows[0]), len(rows)
    tall, wide = _HEAD + down * (height + _GAP) + _FOOT, across * (width + _GAP) + _GAP
    page = np.full((tall + tall % 2, wide + wide % 2, 3), 255, dtype=np.uint8)  # mp4 needs even sides
    for y, row in enumerate(rows):
        for x, panel in enumerate(row):
            top, left = _HEAD + y * (height + _GAP), _GAP + x * (width + _GAP)
            page[top : top + height, left : left + width] = panel
    for x, title in enumerate(TITLES[:across]):
        page = with_text(page, title, (_GAP + x * (width + _GAP), _HEAD / 2), size=19, color=INK)
    return with_text(page, caption, (_GAP, tall - _FOOT / 2 - _GAP / 2), size=15, color=FAINT)


def _to_panel(box: np.ndarray, view: View) -> tuple[float, float, float, float]:
    """Scale a box of the original frame to the panel, ends inclusive in both."""
    down, across = (panel / frame for panel, frame in zip(view.size, view.frame_size, strict=True))
    x1, y1, x2, y2 = (float(value) for value in box)
    return x1 * across, y1 * down, (x2 + 1) * across - 1, (y2 + 1) * down - 1
