"""Confidence in numbers: bootstrap over videos, paired where two results share them.

Frames and clips of a video are alike, so that videos are resampled, never frames (a cluster
bootstrap; Field and Welsh, JRSS B 2007). Seeds are not resampled: over them a number has a
standard deviation of its own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt

from ovvol_bench.arrays import Doubles
from ovvol_bench.errors import DataError
from ovvol_bench.metrics.by_video import Terms

Mark = Literal["best", "second", ""]

LEAST_VIDEOS = 10
"""Fewer videos give no interval: resampling them knows too little of other videos."""
RESAMPLES = 4000


@dataclass(frozen=True)
class Interval:
    """Bounds of a number over other videos of the same kind.

    Attributes:
        low, high: bounds.
        level: confidence, for example 0.95.
        videos: that were resampled.
    """

    low: float
    high: float
    level: float
    videos: int


@dataclass(frozen=True)
class Difference:
    """Number minus another on the same videos.

    Attributes:
        value: the difference.
        interval: of it.
        first_higher: share of the resamples in which the first number is higher, equal ones as half.
        p_value: twice the smaller of the shares above and below 0, at most 1.
    """

    value: float
    interval: Interval
    first_higher: float
    p_value: float


@dataclass(frozen=True)
class Sample:
    """Number by video, on one or several seeds; over seeds it is the mean.

    Attributes:
        videos: (V,) names, ascending.
        seeds: the terms of each seed, at least one.
    """

    videos: tuple[str, ...]
    seeds: tuple[Terms, ...]

    @property
    def value(self) -> float:
        """The number; NaN where there is no data."""
        return float(np.mean([terms.value for terms in self.seeds]))


def interval(sample: Sample, level: float = 0.95) -> Interval:
    """Bootstrap interval of a number.

    Percentiles of ``RESAMPLES`` resamples, widened for few videos as Student's t is against the normal
    distribution (Hesterberg, The American Statistician 2015, section 5.2).

    Args:
        sample: of at least ``LEAST_VIDEOS`` videos.
        level: confidence in (0, 1).

    Raises:
        DataError: if there are too few videos.
    """
    _check_videos(len(sample.videos))
    return _percentiles(_resampled(sample, _weights(sample.videos)), len(sample.videos), level)


def difference(first: Sample, second: Sample, level: float = 0.95) -> Difference:
    """Paired bootstrap of two numbers: both see the same resampled videos.

    Raises:
        DataError: if the videos are not the same, or too few.
    """
    if first.videos != second.videos:
        only = sorted(set(first.videos) ^ set(second.videos))
        raise DataError(
            f"the results are over different videos: {len(only)} are in one of them only, such as "
            f"'{only[0]}'; expected the same ones"
        )
    _check_videos(len(first.videos))
    weights = _weights(first.videos)
    values = _resampled(first, weights) - _resampled(second, weights)
    values = values[~np.isnan(values)]
    above, equal = float((values > 0).mean()), float((values == 0).mean())
    below = 1 - above - equal
    return Difference(
        first.value - second.value,
        _percentiles(values, len(first.videos), level),
        above + equal / 2,
        min(1.0, 2 * (min(above, below) + equal / 2)),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values of several comparisons so that a false find among all stays as rare (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p_values, kind="stable")
    scaled = np.asarray(p_values)[order] * np.arange(len(order), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(scaled), 1.0)
    result = np.empty(len(order))
    result[order] = adjusted
    return [round(float(value), 12) for value in result]


def marks(samples: Sequence[Sample | None], coverage: Sequence[float], higher_is_better: bool) -> list[Mark]:
    """Mark the best of several numbers, if it beats each other beyond the 95% interval of their difference.

    The second is marked likewise over all below it. Numbers that leave out clips have no part. Nothing is
    marked where one isn't known by video, or there are fewer than ten videos.

    Args:
        samples: by video; None where a number isn't known so.
        coverage: share of the clips that are in each number.
        higher_is_better: direction.
    """
    marked: list[Mark] = [""] * len(samples)
    taking_part = [place for place, share in enumerate(coverage) if not share < 1]
    known = {place: sample for place in taking_part if (sample := samples[place]) is not None}
    if len(known) < max(2, len(taking_part)) or len(known[taking_part[0]].videos) < LEAST_VIDEOS:
        return marked
    sign = 1 if higher_is_better else -1
    last = -math.inf  # a number that is undefined
    worth = {p: last if math.isnan(each.value) else sign * each.value for p, each in known.items()}
    best, *others = sorted(known, key=lambda place: -worth[place])
    if all(_beats(known[best], known[place], sign) for place in others):
        marked[best] = "best"
        second, *others = others
        if others and all(_beats(known[second], known[place], sign) for place in others):
            marked[second] = "second"
    return marked


def _beats(sample: Sample, other: Sample, sign: int) -> bool:
    if sample.videos != other.videos or math.isnan(sample.value):
        return False
    if math.isnan(other.value):
        return True
    found = difference(sample, other).interval
    return (found.low if sign > 0 else -found.high) > 0


def _check_videos(count: int) -> None:
    if count < LEAST_VIDEOS:
        raise DataError(
            f"{count} videos are too few for an interval; expected at least {LEAST_VIDEOS}. Score more videos"
        )


@lru_cache(maxsize=4)  # a table asks for the same videos in every cell
def _weights(videos: tuple[str, ...]) -> npt.NDArray[np.int64]:
    """(R, V) how often each video is drawn in each resample; the same for the same videos."""
    digest = hashlib.sha256("\n".join(videos).encode()).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "big"))
    count = len(videos)
    return rng.multinomial(count, np.full(count, 1 / count), RESAMPLES)


def _resampled(sample: Sample, weights: npt.NDArray[np.int64]) -> Doubles:
    """(R,) the number in every resample; NaN in one without data."""
    values = np.zeros(len(weights))
    for terms in sample.seeds:
        # One product sums over the videos of all resamples.
        sums, counts = weights @ terms.sums, weights @ terms.counts
        values += np.divide(sums, counts, out=np.full(len(sums), np.nan), where=counts > 0)
    return values / len(sample.seeds)


def _percentiles(values: Doubles, videos: int, level: float) -> Interval:
    from scipy import special  # scipy.stats takes half a second to import

    widened = special.stdtrit(videos - 1, (1 - level) / 2) * np.sqrt(videos / (videos - 1))
    tail = float(special.ndtr(widened))
    defined = values[~np.isnan(values)]
    low, high = np.quantile(defined, [tail, 1 - tail]) if len(defined) else (np.nan, np.nan)
    return Interval(float(low), float(high), level, videos)
