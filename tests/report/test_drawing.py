"""Colours, masks and labels."""

import numpy as np
import pytest

from ovvol_bench.report import drawing
from ovvol_bench.report.drawing import NamedBox, color_of, enlarge, faded, fit, outlined, tinted, with_boxes


def test_the_first_21_colors_differ_and_stay_the_same():
    colors = [color_of(index) for index in range(21)]
    assert len(set(colors)) == 21
    assert color_of(21) == colors[0]
    assert color_of(0) == (0, 114, 178)


@pytest.mark.parametrize("size", [(40, 60), (41, 59)])
def test_masks_are_enlarged_without_new_labels(size):
    labels = np.arange(6, dtype=np.int16).reshape(2, 3)
    large = enlarge(labels, size)
    assert large.shape == size
    assert [large[0, 0], large[0, -1], large[-1, 0], large[-1, -1]] == [0, 2, 3, 5]
    assert set(np.unique(large)) == set(range(6))
    np.testing.assert_array_equal(enlarge(labels, (40, 60)), np.kron(labels, np.ones((20, 20), int)))


def test_pictures_are_resized_both_ways():
    image = np.full((96, 128, 3), 90, np.uint8)
    assert (fit(image, (240, 320)) == 90).all()
    assert fit(image, (48, 64)).shape == (48, 64, 3)


def test_tint_mixes_and_fading_darkens():
    image = np.full((1, 2, 3), 100, np.uint8)
    colors = np.array([(0, 0, 0), (200, 100, 0)], np.uint8)
    tint = tinted(image, np.array([[0, 1]]), colors, 0.5)
    assert tint.tolist() == [[[50, 50, 50], [150, 100, 50]]]
    assert faded(image, 0.5).max() == 50


def test_outlines_are_drawn_between_labels_only_in_the_color_of_the_higher():
    labels = np.zeros((8, 8), np.int64)
    labels[:, 4:] = 1
    colors = np.array([(1, 1, 1), (200, 0, 0)], np.uint8)
    lined = outlined(np.full((8, 8, 3), 50, np.uint8), labels, colors)
    assert (lined[:, 4] == (200, 0, 0)).all()
    assert (lined[:, :3] == 50).all()
    assert (lined[:, 6:] == 50).all()


def test_a_box_has_its_color_on_its_edges_and_nothing_inside():
    image = np.full((240, 320, 3), 128, np.uint8)
    drawn = with_boxes(image, [NamedBox((100, 80, 219, 179), "dog 0.83", (0, 158, 115))])
    for y, x in ((80, 160), (179, 160), (130, 100), (130, 219)):
        assert drawn[y, x].tolist() == [0, 158, 115]
    assert (drawn[100:160, 120:200] == 128).all()
    assert (image == 128).all()


def test_labels_lie_inside_the_picture_and_apart(monkeypatch):
    places = []
    monkeypatch.setattr(drawing, "_write_chip", lambda pen, place, *_: places.append(place))
    boxes = [
        NamedBox((0, 0, 319, 239), name, (0, 0, 0)) for name in ("dog 0.8", "cat 0.5", "fox 0.3", "bear 0.1")
    ]
    with_boxes(np.zeros((240, 320, 3), np.uint8), boxes)
    assert all(x1 >= 0 and y1 >= 0 and x2 <= 320 and y2 <= 240 for x1, y1, x2, y2 in places)
    assert all(drawing.overlap(one, other) == 0 for one in places for other in places if one is not other)
