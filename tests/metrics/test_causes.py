"""Every object and every box has one cause: as plain words have it, and on scenes drawn by hand."""

from unittest.mock import patch

import numpy as np
import pytest
from column_scenes import BOTH, SEEDS, random_columns, scene
from hypothesis import given, settings
from hypothesis import strategies as st

from ovvol_bench.arrays import offsets_of
from ovvol_bench.errors import SettingError
from ovvol_bench.metrics.detrate import detection_rate
from ovvol_bench.metrics.errors import OF_BOXES, OF_OBJECTS, Rules, explain

RULES = st.sampled_from([Rules(), Rules(0.75, 0.2, 0.4), Rules(0.3, 0.05, 0.9)])


def causes(columns, rules=None):
    """Labels of all objects and of all boxes."""
    found = explain(columns, rules or Rules())
    return label(found.of_object), label(found.of_box)


def label(values):
    by_value = {cause: cause.label for cause in {*OF_OBJECTS, *OF_BOXES}}
    return [by_value[value] for value in values.tolist()]


# --- the rules in plain words --------------------------------------------------------------------

ORDER = ["right", "wrong_name", "part", "merged_objects", "merged_background", "misplaced", "wrong_both"]


def area(box, offset):
    return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)


def shared(one, two, offset):
    width = min(one[2], two[2]) - max(one[0], two[0]) + offset
    height = min(one[3], two[3]) - max(one[1], two[1]) + offset
    return max(width, 0) * max(height, 0)


def iou(one, two, offset):
    union = area(one, offset) + area(two, offset) - shared(one, two, offset)
    return shared(one, two, offset) / union if union else 0.0


def share(one, of, offset):
    return shared(one, of, offset) / area(of, offset) if area(of, offset) else 0.0


def plain_pair(box, name, target, others, rules, offset):
    """What a box is for an object, if neither had anything else."""
    overlap = iou(box, target["box"], offset)
    if overlap > rules.fit:
        return "right" if name == target["class"] else "wrong_name"
    mostly, covered = (
        share(target["box"], box, offset) > rules.most,
        share(box, target["box"], offset) > rules.most,
    )
    if mostly and not covered:
        return "part" if name == target["class"] else "wrong_both"
    if overlap < np.float32(rules.touch):
        return None
    if covered and not mostly:
        swallowed = [
            each
            for each in others
            if each is not target
            and share(box, each["box"], offset) > rules.most
            and iou(box, each["box"], offset) >= np.float32(rules.touch)
        ]
        return "merged_objects" if swallowed else "merged_background"
    return "misplaced" if name == target["class"] else "wrong_both"


def plain_frame(found, objects, rules, offset):
    """Labels of the objects and of the boxes of one frame."""
    for target in objects:
        target["causes"], target["right"] = [], []
    real = [each for each in objects if not each["padding"]]
    for each in found:
        each["causes"], each["near"] = [], [(0, "none")]
        for target in real if not each["empty"] else ():
            cause = plain_pair(each["box"], each["name"], target, real, rules, offset)
            if not target["ignored"]:
                target["causes"] += [cause] if cause else []
                each["causes"] += [cause] if cause else []
                target["right"] += [each] if cause == "right" else []
                each["near"].append((iou(each["box"], target["box"], offset), "sought"))
            elif cause:
                each["near"].append((iou(each["box"], target["box"], offset), "ignored"))
    leaders = [
        max(target["right"], key=lambda each: (each["score"], iou(each["box"], target["box"], offset)))
        for target in real
        if target["right"]
    ]
    return [plain_object(each) for each in objects], [plain_box(each, leaders) for each in found]


def plain_object(target):
    if target["ignored"] or target["padding"]:
        return "ignored"
    return min(target["causes"], key=ORDER.index, default="missed")


def plain_box(each, leaders):
    if each["empty"]:
        return "empty"
    cause = min(each["causes"], key=ORDER.index, default="background")
    if cause == "right":
        return "right" if any(each is leader for leader in leaders) else "duplicate"
    nearest = max(each["near"], key=lambda near: (near[0], near[1] == "sought"))
    return "ignored" if cause != "wrong_name" and nearest[1] == "ignored" else cause


def plain_causes(columns, rules):
    reference = columns.protocol.name == "vid-reference"
    offset = 0 if reference else 1
    names, scores = columns.scores.top
    truth, labels = columns.truth, ([], [])
    starts, true_starts = offsets_of(columns.box_counts), offsets_of(truth.counts)
    for frame in range(len(columns)):
        found, objects = [], []
        for row in range(starts[frame], starts[frame + 1]):
            box = tuple(map(float, columns.boxes[row]))
            empty = reference and (box[0] == -1 or area(box, 0) == 0)
            found.append({"box": box, "name": names[row], "score": scores[row], "empty": empty})
        for row in range(true_starts[frame], true_starts[frame + 1]):
            box = tuple(map(float, truth.boxes[row]))
            padding, ignored = reference and box[0] == -1, bool(truth.ignored[row])
            objects.append({"box": box, "class": truth.classes[row], "ignored": ignored, "padding": padding})
        for known, added in zip(labels, plain_frame(found, objects, rules, offset), strict=True):
            known.extend(added)
    return labels


# --- tests ---------------------------------------------------------------------------------------


@BOTH
@settings(max_examples=300, deadline=None)
@given(seed=SEEDS, rules=RULES)
def test_causes_are_what_the_rules_say_in_plain_words(protocol, seed, rules):
    columns = random_columns(seed, protocol)
    assert causes(columns, rules) == plain_causes(columns, rules)


@BOTH
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, rules=RULES)
def test_everything_has_exactly_one_cause_of_its_kind(protocol, seed, rules):
    columns = random_columns(seed, protocol)
    objects, boxes = causes(columns, rules)
    assert (len(objects), len(boxes)) == (len(columns.truth), len(columns.boxes))
    assert set(objects) <= {cause.label for cause in OF_OBJECTS}
    assert set(boxes) <= {cause.label for cause in OF_BOXES}
    sought = [cause for cause in objects if cause != "ignored"]
    assert len(sought) == columns.sought.sum()


@BOTH
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS, pairs=st.integers(1, 9))
def test_frames_may_be_looked_at_in_any_portions(protocol, seed, pairs):
    columns = random_columns(seed, protocol)
    with patch("ovvol_bench.metrics.errors._AT_ONCE", pairs):
        in_portions = causes(columns)
    assert in_portions == causes(columns)


@BOTH
@settings(max_examples=100, deadline=None)
@given(seed=SEEDS)
def test_objects_in_the_right_place_are_those_that_detrate_counts(protocol, seed):
    columns = random_columns(seed, protocol)
    objects, _ = causes(columns)
    met = sum(cause in ("right", "wrong_name") for cause in objects)
    rate = detection_rate(columns)
    assert met == pytest.approx(rate.notes["per_object"] * rate.notes["objects"] if rate.count else 0)


A, B = (10, 10, 29, 29), (30, 10, 49, 29)
"""Two objects side by side, 20 x 20 pixels each."""


@pytest.mark.parametrize(
    ("box", "name", "objects", "boxes"),
    [
        (A, 1, ["right", "missed"], ["right"]),
        (A, 2, ["wrong_name", "missed"], ["wrong_name"]),
        ((10, 10, 19, 29), 1, ["part", "missed"], ["part"]),
        ((10, 10, 29, 49), 1, ["merged_background", "missed"], ["merged_background"]),
        ((10, 10, 11, 11), 1, ["part", "missed"], ["part"]),
        ((10, 10, 19, 29), 3, ["wrong_both", "missed"], ["wrong_both"]),
        ((5, 10, 54, 29), 1, ["merged_objects", "merged_objects"], ["merged_objects"]),
        ((5, 10, 54, 29), 3, ["merged_objects", "merged_objects"], ["merged_objects"]),
        ((0, 0, 29, 39), 3, ["merged_background", "missed"], ["merged_background"]),
        ((0, 19, 19, 38), 1, ["misplaced", "missed"], ["misplaced"]),
        ((0, 19, 19, 38), 3, ["wrong_both", "missed"], ["wrong_both"]),
        ((60, 60, 79, 79), 1, ["missed", "missed"], ["background"]),
        ((0, 0, 199, 199), 1, ["missed", "missed"], ["background"]),
    ],
)
def test_one_box_and_two_objects(box, name, objects, boxes):
    assert causes(scene([(box, name)], [(A, 1), (B, 2)])) == (objects, boxes)


def test_a_second_right_box_is_a_duplicate_whichever_comes_first():
    close = (10, 10, 29, 28)
    assert causes(scene([(close, 1, 0.4), (A, 1, 0.9)], [(A, 1)])) == (["right"], ["duplicate", "right"])
    assert causes(scene([(close, 1, 0.9), (A, 1, 0.4)], [(A, 1)])) == (["right"], ["right", "duplicate"])
    assert causes(scene([(close, 1), (A, 1)], [(A, 1)])) == (["right"], ["duplicate", "right"])
    assert causes(scene([(A, 1), (A, 1)], [(A, 1)])) == (["right"], ["right", "duplicate"])


def test_a_box_that_is_right_for_one_object_may_be_merged_for_another():
    inside = (12, 12, 23, 23)
    found = causes(scene([(A, 1)], [(A, 1), (inside, 2)]))
    assert found == (["right", "merged_objects"], ["right"])


def test_ignored_objects_are_neither_missed_nor_errors():
    assert causes(scene([(A, 2)], [(A, 1, True)])) == (["ignored"], ["ignored"])
    assert causes(scene([], [(A, 1, True)])) == (["ignored"], [])
    assert causes(scene([(A, 1)], [(A, 1), (A, 1, True)])) == (["right", "ignored"], ["right"])
    near_both = (22, 10, 41, 29)
    assert causes(scene([(near_both, 3)], [(A, 1), (B, 2, True)]))[1] == ["ignored"]


def test_absent_segments_and_padding_stand_for_nothing_in_the_reference():
    nothing = (0, 0, 0, 0)
    reference = scene([(nothing, 1), ((-1, 0, 9, 9), 1)], [(A, 1), ((-1, 5, 9, 9), 1)], "vid-reference")
    assert causes(reference) == (["missed", "ignored"], ["empty", "empty"])
    assert causes(scene([(nothing, 1)], [(A, 1)])) == (["missed"], ["background"])


@pytest.mark.parametrize("wrong", [{"touch": 0.6}, {"touch": 0}, {"most": 0}, {"most": 1}])
def test_rules_that_contradict_themselves_are_refused(wrong):
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Rules(**wrong)
