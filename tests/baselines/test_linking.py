import itertools

import numpy as np
import torch
from patch_scenes import build, scene, slots_of

from ovvol_baselines.groupers.linking import link, link_labels, unit


def test_slots_keep_their_number_when_their_order_changes():
    axes = np.eye(3, dtype=np.float32)
    numbers = link(np.stack([axes, axes[[2, 0, 1]], axes[[1, 2, 0]]]))
    assert numbers.tolist() == [[0, 1, 2], [2, 0, 1], [1, 2, 0]]


def test_the_pairing_has_the_largest_sum_of_cosines():
    slots = np.random.default_rng(0).standard_normal((2, 4, 5)).astype(np.float32)
    cosines = unit(slots[1]) @ unit(slots[0]).T
    best = max(itertools.permutations(range(4)), key=lambda p: sum(cosines[k, p[k]] for k in range(4)))
    assert link(slots)[1].tolist() == list(best)


def test_a_slot_that_was_away_is_known_again():
    axes = np.eye(3, dtype=np.float32)
    slots = np.stack([axes, axes, axes[[1, 0, 2]]])
    present = np.array([[True, True, True], [True, False, True], [True, True, True]])
    assert link(slots, present)[2].tolist() == [1, 0, 2]


def test_what_is_new_takes_a_free_number():
    slots = np.array([[[1, 0], [0, 0]], [[-1, 0.1], [1, 0]]], np.float32)
    assert link(slots, np.array([[True, False], [True, True]])).tolist() == [[0, 1], [1, 0]]


def test_labels_are_linked_and_the_background_stays():
    tokens = np.eye(3, dtype=np.float32)[[[[0, 1, 2]], [[0, 1, 2]]]]
    labels = np.array([[[0, 1, 2]], [[0, 2, 1]]])
    assert link_labels(labels, tokens, 3, fixed=1).tolist() == [[[0, 1, 2]], [[0, 1, 2]]]
    swapped = np.array([[[0, 1, 1]], [[1, 0, 0]]])  # the background doesn't take part, however alike
    assert link_labels(swapped, tokens, 2, fixed=1).tolist() == swapped.tolist()


def test_frames_of_a_moving_scene_are_linked():
    labels = torch.zeros(3, 5, 6, dtype=torch.int64)
    for step in range(3):
        labels[step, 1:3, step : step + 2] = 1
        labels[step, 3:5, 4 - step : 6 - step] = 2
    slots = slots_of(build("spectral", num_slots=3, span="frame"), scene(labels))
    assert len({(int(a), int(b)) for a, b in zip(labels.flatten(), slots.flatten(), strict=True)}) == 3
