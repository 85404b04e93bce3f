"""Remarks on runs."""

import numpy as np
import pytest

from ovvol_bench.predictions import ClipPrediction, Predictions, pack
from ovvol_bench.runs.learned import Learned
from ovvol_bench.runs.score import UNIFORM, relative_entropy, remarks, strangers
from ovvol_bench.types import ClipInfo, Localization


def predictions(probabilities, present) -> Predictions:
    """One clip of a frame for each row of ``present``, with a segment for each row of ``probabilities``."""
    present = np.array(present, np.bool_)
    frames, segments = present.shape
    found = Localization(
        boxes=np.zeros((frames, segments, 4), np.float32),
        present=present,
        probabilities=np.array(probabilities, np.float32),
        slot_map=np.zeros((frames, 1, 1), np.int16),
        segment_of_slot=np.arange(segments, dtype=np.int16),
        input_size=(8, 8),
    )
    return pack([ClipPrediction(ClipInfo("c", "v", tuple(range(frames)), (8, 8)), (8, 8), found)])


def test_without_truth_boxes_are_counted_by_name_and_absent_ones_are_not():
    found = predictions([[0, 0.9, 0.1], [0, 0.2, 0.8]], [[True, True], [False, True]])
    assert list(remarks(found, ["cat", "dog"], has_truth=False)) == ["found 3 boxes: 2 dog, 1 cat"]
    assert not list(remarks(found, ["cat", "dog"], has_truth=True))


def test_nothing_found_is_said():
    nothing = predictions(np.zeros((0, 3)), np.zeros((2, 0)))
    assert list(remarks(nothing, ["cat", "dog"], has_truth=False)) == ["found no boxes"]


def test_names_that_are_near_uniform_are_said():
    same = predictions([[0.1, 0.3, 0.3, 0.3]], [[True]])
    assert relative_entropy(same) == pytest.approx(1)
    (remark,) = remarks(same, ["a", "b", "c"], has_truth=True)
    assert "near uniform (entropy 100.0%" in remark
    sure = predictions([[0, 1, 0, 0]], [[True]])
    assert relative_entropy(sure) == 0 < UNIFORM


def test_weights_of_the_built_in_world_on_other_data_are_said():
    rendered, filmed = Learned("shapes", "", 9, ()), Learned("videos", "", 9, ())
    learned = {"encoder": (rendered,), "grouper": (rendered, filmed), "labeler": ()}
    (remark,) = strangers("imagenet-vid", learned)
    assert remark.startswith("weights of encoder learned from the rendered 'shapes' alone")
    assert "-o encoder.weights=FILE" in remark
    assert not list(strangers("shapes", learned))
