"""The contract of metrics; the first line of a check's docstring is the promise that users read."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import fields

import numpy as np

from ovvol_bench.metrics.base import Metric, MetricValue
from ovvol_bench.testing.cases import make_infos
from ovvol_bench.testing.findings import Report, expect, run_checks
from ovvol_bench.types import ClipInfo, Localization

SIZE, GRID = (48, 64), (6, 8)
CLASSES = 4


def check_metric(build: Callable[[], Metric], name: str = "metric") -> Report:
    """Hold a metric to its contract.

    Args:
        build: gives a fresh accumulator each time.
        name: how findings call it.
    """
    own = MetricContract(build)
    checks = (
        own.declares, own.gives_numbers, own.any_order, own.undefined_without_clips, own.reads_only,
        own.saves,
    )  # fmt: skip
    return run_checks(f"metric '{name}'", checks)


def _found(info: ClipInfo, rng: np.random.Generator) -> Localization:
    """Three slots on a patch grid, two of them kept, one of them near the first object."""
    frames = len(info.frame_indices)
    slot_map = rng.integers(0, 3, (frames, *GRID)).astype(np.int16)
    boxes = np.zeros((frames, 2, 4), np.float32)
    for t, truth in enumerate(info.truth or ()):
        boxes[t, 0] = truth.boxes[0] + rng.integers(0, 3, 4)
        boxes[t, 1] = [20, 10, 50, 40]
    scores = np.concatenate([np.zeros((2, 1)), rng.dirichlet(np.ones(CLASSES), 2)], axis=1).astype(np.float32)
    kept = np.array([0, 1, -1], np.int16)
    return Localization(boxes, np.ones((frames, 2), np.bool_), scores, slot_map, kept, SIZE)


class MetricContract:
    """Promises of a metric.

    Args:
        build: gives a fresh accumulator each time.
    """

    def __init__(self, build: Callable[[], Metric]) -> None:
        rng = np.random.default_rng(4)
        self.build = build
        self.clips = tuple((_found(info, rng), info) for info in make_infos(SIZE, 4, clips=4))

    def fed(self, places: Sequence[int]) -> Metric:
        """Make a fresh metric that has seen some clips."""
        metric = self.build()
        for place in places:
            # Copies, so that a metric that writes to its arguments breaks one promise and not all.
            metric.update(*deepcopy(self.clips[place]))
        return metric

    def declares(self) -> None:
        """Declares its protocol and direction."""
        metric = self.build()
        expect(
            bool(getattr(metric, "protocol", "")), "it has no protocol; expected the id of its conventions"
        )
        better = metric.higher_is_better
        expect(isinstance(better, bool), f"higher_is_better is {better!r}; expected True or False")

    def gives_numbers(self) -> None:
        """Gives its numbers by name, each with what it is a mean over."""
        values = self.fed(range(4)).compute()
        expect(bool(values), "compute() gave no number after four clips; expected at least one")
        for name, value in values.items():
            expect(
                isinstance(value, MetricValue),
                f"'{name}' is a {type(value).__name__}; expected a MetricValue",
            )
            expect(value.count >= 0, f"'{name}' has count {value.count}; expected 0 or more")

    def any_order(self) -> None:
        """Gives the same numbers in any order of the clips."""
        _expect_same(self.fed([3, 1, 0, 2]).compute(), self.fed(range(4)).compute(), "clips in another order")

    def undefined_without_clips(self) -> None:
        """Is undefined without clips, or a count of none."""
        for name, value in self.build().compute().items():
            undefined = math.isnan(value.value) or value.value == value.count == 0
            expect(undefined, f"'{name}' is {value.value} without any clip; expected NaN")

    def reads_only(self) -> None:
        """Writes to neither of its arguments."""
        localization, info = deepcopy(self.clips[0])
        self.build().update(localization, info)
        for field in fields(Localization):
            was, now = (getattr(each, field.name) for each in (self.clips[0][0], localization))
            expect(
                np.array_equal(was, now),
                f"it wrote to Localization.{field.name}; expected a copy to be changed",
            )

    def saves(self) -> None:
        """Keeps its state when it is saved and loaded."""
        metric = self.fed(range(4))
        loaded: Metric = pickle.loads(pickle.dumps(metric))  # noqa: S301 - its own
        _expect_same(loaded.compute(), metric.compute(), "before and after saving")


def _expect_same(one: Mapping[str, MetricValue], other: Mapping[str, MetricValue], what: str) -> None:
    expect(
        one.keys() == other.keys(), f"{what}: numbers {sorted(one)} and {sorted(other)}; expected the same"
    )
    for name, value in one.items():
        same = math.isclose(value.value, other[name].value, rel_tol=1e-9, abs_tol=1e-12)
        both_undefined = math.isnan(value.value) and math.isnan(other[name].value)
        expect(
            (same or both_undefined) and value.count == other[name].count,
            f"{what}: '{name}' is {value.value} over {value.count} and {other[name].value} over "
            f"{other[name].count}; expected the same",
        )
