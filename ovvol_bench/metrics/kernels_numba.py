"""The kernels of ``kernels_numpy``, compiled: the same arguments, the same results to the last bit.

Machine code is kept on disk beside this file, or in numba's own folder where that can't be written.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from ovvol_bench.metrics.kernels_numpy import IGNORED, UNMATCHABLE

TOP_BITS = 16
"""Sign, exponent and first 7 digits of a float32: scores are looked up by these before a search."""


@njit(cache=True, error_model="numpy")
def _overlap(first, i, second, j, offset):
    # All in float32, operation by operation as boxes.paired_iou.
    grow = np.float32(1 if offset == 2 else 0)
    side = np.float32(1 if offset == 2 else offset)
    a_x, a_y, b_x, b_y = first[i, 2] + grow, first[i, 3] + grow, second[j, 2] + grow, second[j, 3] + grow
    inner_x = min(a_x, b_x) - max(first[i, 0], second[j, 0]) + side
    inner_y = min(a_y, b_y) - max(first[i, 1], second[j, 1]) + side
    shared = max(inner_x, np.float32(0)) * max(inner_y, np.float32(0))
    area = (a_x - first[i, 0] + side) * (a_y - first[i, 1] + side)
    other = (b_x - second[j, 0] + side) * (b_y - second[j, 1] + side)
    union = area + other - shared
    return shared / union if union > 0 else np.float32(0)


@njit(cache=True, error_model="numpy")
def best_boxes(box_starts, boxes, padding, truth_starts, truth, offset):
    iou, best = np.zeros(len(truth), np.float32), np.full(len(truth), -1)
    for frame in range(len(box_starts) - 1):
        for true in range(truth_starts[frame], truth_starts[frame + 1]):
            for box in range(box_starts[frame], box_starts[frame + 1]):
                overlap = np.float32(0) if padding[box] else _overlap(truth, true, boxes, box, offset)
                if best[true] < 0 or overlap > iou[true]:
                    iou[true], best[true] = overlap, box
    return iou, best


@njit(cache=True)
def _count_pairs(box_starts, labels, groups):
    detections, pairs = 0, 0
    for group in range(len(groups)):
        frame, class_id = groups[group, 0], groups[group, 1]
        for box in range(box_starts[frame], box_starts[frame + 1]):
            if labels[box] < 0 or labels[box] == class_id:
                detections += 1
                pairs += groups[group, 3] - groups[group, 2]
    return detections, pairs


@njit(cache=True, error_model="numpy")
def pair_up(box_starts, boxes, labels, groups, truth, offset):
    detections, pairs = _count_pairs(box_starts, labels, groups)
    box_of, group_of = np.empty(detections, np.int64), np.empty(detections, np.int64)
    starts = np.zeros(detections + 1, np.int64)
    place, iou = np.empty(pairs, np.int64), np.empty(pairs, np.float32)
    detection, pair = 0, 0
    for group in range(len(groups)):
        frame, class_id = groups[group, 0], groups[group, 1]
        for box in range(box_starts[frame], box_starts[frame + 1]):
            if labels[box] >= 0 and labels[box] != class_id:
                continue
            for true in range(groups[group, 2], groups[group, 3]):
                place[pair], iou[pair] = true, _overlap(boxes, box, truth, true, offset)
                pair += 1
            box_of[detection], group_of[detection] = box, group
            detection += 1
            starts[detection] = pair
    return box_of, group_of, starts, place, iou


@njit(cache=True)
def _before(keys, one, other):
    for key in range(keys.shape[1]):
        if keys[one, key] != keys[other, key]:
            return keys[one, key] < keys[other, key]
    return False


@njit(cache=True)
def queue_groups(group, keys):
    # Groups are a few detections each: each is inserted where it belongs.
    order = np.arange(len(group))
    for row in range(1, len(group)):
        place = row
        while place and group[place - 1] == group[row] and _before(keys, row, order[place - 1]):
            order[place] = order[place - 1]
            place -= 1
        order[place] = row
    return order


@njit(cache=True)
def take(starts, pair_truth, pair_iou, queue, state, threshold):
    matched = np.full(len(queue), -1)
    taken = np.zeros(len(state), np.bool_)
    for place in range(len(queue)):
        winner, highest = -1, threshold
        for pair in range(starts[queue[place]], starts[queue[place] + 1]):
            truth = pair_truth[pair]
            if pair_iou[pair] < highest or taken[truth] or state[truth] == UNMATCHABLE:
                continue
            if winner < 0 or pair_iou[pair] > highest or state[winner] == IGNORED:
                winner, highest = truth, pair_iou[pair]
        if winner >= 0:
            matched[place] = winner
            taken[winner] = True
    return matched


@njit(cache=True)
def _bucket(bits):
    # Floats as integers are in order, negative ones the wrong way round.
    code = bits >> (32 - TOP_BITS)
    middle = 1 << (TOP_BITS - 1)
    return middle + code if bits >= 0 else -1 - code


@njit(cache=True)
def _starts(level_bits):
    starts = np.zeros((1 << TOP_BITS) + 1, np.int64)
    for level in range(len(level_bits)):
        starts[_bucket(level_bits[level]) + 1] += 1
    return np.cumsum(starts)


@njit(cache=True)
def _place(value, bits, levels, starts):
    bucket = _bucket(bits)
    low, high = starts[bucket], starts[bucket + 1]
    while low < high:
        middle = (low + high) // 2
        if levels[middle] < value:
            low = middle + 1
        else:
            high = middle
    return 2 * low + (low < len(levels) and levels[low] == value)


@njit(cache=True)
def _search(values, value_bits, levels, level_bits):
    starts = _starts(level_bits)
    found = np.empty(len(values), np.int64)
    for row in range(len(values)):
        found[row] = _place(values[row], value_bits[row], levels, starts)
    return found


@njit(cache=True)
def _tally(values, value_bits, counts, levels, level_bits):
    starts = _starts(level_bits)
    tallies = np.zeros(2 * len(levels) + 1, np.int64)
    for row in range(len(values)):
        tallies[_place(values[row], value_bits[row], levels, starts)] += counts[row]
    return tallies


def _bits(scores):
    # Zero is added to make -0 and 0 the same bits.
    return (scores.astype(np.float32) + np.float32(0)).view(np.int32)


def places(values, levels):
    values, levels = np.ascontiguousarray(values), np.ascontiguousarray(levels)
    return _search(values, _bits(values), levels, _bits(levels))


def tally(values, counts, levels):
    values, levels = np.ascontiguousarray(values), np.ascontiguousarray(levels)
    return _tally(values, _bits(values), counts, levels, _bits(levels))
