"""Batches of clips: equal shapes together, as many as fit."""

from types import SimpleNamespace

import pytest
import torch

from ovvol_bench.runs.session import FittingBatches, batches

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def some_clips(*shapes):
    return [SimpleNamespace(frames=torch.empty(shape, device="meta")) for shape in shapes]


def test_shapes_are_kept_apart_and_what_is_left_over_comes_last():
    small, large = (2, 4, 4, 3), (2, 8, 8, 3)
    clips = some_clips(small, large, small, small, large, small, large)
    found = [[tuple(clip.frames.shape) for clip in batch] for batch in batches(clips, lambda shape: 2)]
    assert found == [[small] * 2, [large] * 2, [small] * 2, [large]]


@pytest.mark.parametrize(
    ("size", "expected"), [((8, 96, 128), 1), ((8, 224, 400), 1), ((8, 32, 48), 10), ((1, 4, 4), 64)]
)
def test_a_cpu_takes_what_stays_in_its_cache(size, expected):
    assert FittingBatches(CPU).size((*size, 3)) == expected


def test_a_gpu_is_tried_with_one_clip_and_then_filled():
    answers = iter([(0, 0, 0), (1000, 150, 100), (0, 0, 0), (1000, 2000, 100)])
    fitting = FittingBatches(GPU, lambda: next(answers))
    sizes = [fitting.size(shape) for shape in ((1,), (1,), (1,), (2,), (2,), (1,))]
    assert sizes == [1, 14, 14, 1, 1, 14]
