"""The views of a frame."""

import numpy as np
import pytest

from ovvol_bench.report import panels as module
from ovvol_bench.report.drawing import color_of
from ovvol_bench.report.panels import View, boxes_panel, kept_panel, panel_size, panels, sheet, truth_panel
from ovvol_bench.types import FrameTruth, Localization

NAMES = ("red circle", "domestic cat")


def view(truth=None, present=True):
    """A 96 x 128 frame; slot 1 of 2 is segment 0, the left half, most likely of class 2."""
    slots = np.zeros((1, 6, 8), np.int16)
    slots[:, :, :4] = 1
    localization = Localization(
        boxes=np.array([[[0, 0, 63, 95]]], np.float32),
        present=np.array([[present]]),
        probabilities=np.array([[0.5, 0.1, 0.4]], np.float32),
        slot_map=slots,
        segment_of_slot=np.array([-1, 0], np.int16),
    )
    return View(np.full((240, 320, 3), 128, np.uint8), 7, 0, localization, (96, 128), truth, NAMES)


def truth():
    flags = np.zeros(1, bool)
    box = np.array([[64, 0, 127, 95]], np.float32)
    return FrameTruth(box, np.array([1]), np.array([0]), flags, flags, np.ones(1, np.float32))


@pytest.fixture
def drawn(monkeypatch):
    """The boxes that panels ask for."""
    asked = []
    monkeypatch.setattr(module, "with_boxes", lambda image, boxes: asked.append(boxes) or image)
    return asked


@pytest.mark.parametrize(
    ("frame", "panel"), [((96, 128), (240, 320)), ((300, 400), (300, 400)), ((1920, 1080), (853, 480))]
)
def test_panels_have_the_shape_of_the_frame_and_a_legible_width(frame, panel):
    assert panel_size(frame) == panel


def test_kept_slots_are_lit_and_dropped_ones_dark():
    panel = kept_panel(view())
    assert panel[120, 40].max() > 100
    assert panel[120, 280].max() < 70


def test_a_named_box_is_scaled_to_the_panel_and_has_its_best_foreground_class(drawn):
    boxes_panel(view())
    ((box,),) = drawn
    assert box.corners == (0, 0, 159, 239)
    assert (box.text, box.color) == ("domestic cat 0.40", color_of(1))


def test_absent_segments_have_no_box(drawn):
    boxes_panel(view(present=False))
    assert drawn == [[]]


def test_truth_has_the_color_of_its_class(drawn):
    truth_panel(view(truth()))
    ((box,),) = drawn
    assert box.corners == (160, 0, 319, 239)
    assert (box.text, box.color) == ("red circle", color_of(0))


def test_there_is_a_truth_panel_only_where_there_is_truth():
    assert len(panels(view())) == 4
    assert len(panels(view(truth()))) == 5


def test_a_sheet_has_even_sides_and_keeps_the_panels():
    page = sheet([[np.full((241, 320, 3), 10, np.uint8)] * 4] * 2, "clip")
    assert page.shape[0] % 2 == page.shape[1] % 2 == 0
    assert (page[100, 100] == 10).all()
    assert (page[-1, -1] == 255).all()
