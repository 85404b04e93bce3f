"""Frames of results: a row each, with settings as typed; filters; seeds and machines merged."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from ovvol_bench.errors import DataError, SettingError, nearest
from ovvol_bench.metrics.by_video import Terms
from ovvol_bench.results.layout import MISSING
from ovvol_bench.results.schema import COMPONENTS, Record
from ovvol_bench.results.statistics import Sample

if TYPE_CHECKING:
    from pandas import DataFrame, Series


SPEED = "clips_per_s"
TELLING_SPAN = 0.0005
"""A span of ties above this, 0.05 points, is printed beside the number."""

CLIPS = ("dataset", "split", "fingerprint", "clips")
SHARED = (*CLIPS, "protocols", "oracle")
"""Facts that results share where their numbers compare. Oracles are no methods and stand apart."""

FILTERS = ("method", *COMPONENTS, "dataset", "split", "seed", "status", "id")
_FACTS = {"record", "combination", "names", "results", "done", "part", "settings", *FILTERS, *SHARED}


def results_frame(records: Sequence[Record]) -> DataFrame:
    """Lay results out in a frame, a row each.

    Returns:
        Columns: ``record``; ``names``; ``FILTERS``, with ``seed`` a list of texts; ``SHARED``; every setting
        by dotted name, as typed on a command line; and ``combination``, which is the same for results that
        differ in nothing but seed and machine. A setting that a result lacks is NaN.
    """
    from pandas import DataFrame

    return DataFrame([_flat(record) for record in records])


def _flat(record: Record) -> dict[str, Any]:
    settings = settings_of(record)
    parts = dict(zip(COMPONENTS, ("", "", "") if record.method else record.names, strict=True))
    return {
        "record": record,
        "combination": json.dumps([record.names, settings]),
        "names": record.names,
        "method": record.method.name if record.method else "",
        **parts,
        **shared_by(record),
        "seed": [str(seed) for seed in record.all_seeds],
        "status": record.status,
        "id": record.id,
        **settings,
    }


def shared_by(record: Record) -> dict[str, Any]:
    """Return what other results must share with a result to compare, by the names in ``SHARED``."""
    return {
        "dataset": record.dataset.name,
        "split": record.dataset.split,
        "fingerprint": record.dataset.fingerprint,
        "clips": record.dataset.clips or 0,
        "protocols": " ".join(sorted({key.partition("@")[2] for key in record.metrics})),
        "oracle": record.oracle,
    }


def settings_of(record: Record) -> dict[str, str]:
    """Flatten everything that can change a result except its seed, by dotted name.

    Settings that say where content lies give way to the digest of the content. Texts stay as they are, other
    values become JSON.
    """
    flat: dict[str, Any] = {}
    for kind, part in {**record.parts, "dataset": record.dataset}.items():
        flat |= {f"{kind}.{name}": value for name, value in part.settings.items()}
    if record.file is not None:
        flat["file"] = record.file.sha256[:8]
    else:
        for kind, part in record.parts.items():
            flat |= {f"{kind}.version": part.version, f"{kind}.weights": (part.weights_sha256 or "none")[:8]}
        flat |= {f"naming.{name}": value for name, value in record.naming.items()}
        flat |= {name: getattr(record, name) for name in ("precision", "fidelity", "consensus")}
        flat["seeds merged"] = len(record.all_seeds)
    return {
        name: value if isinstance(value, str) else json.dumps(value) for name, value in sorted(flat.items())
    }


def setting_names(frame: DataFrame) -> list[str]:
    """Name the columns of a frame that are settings, sorted."""
    return sorted(set(frame.columns) - _FACTS - set(_TEXTS))


def filtered(records: Sequence[Record], filters: Sequence[str]) -> list[Record]:
    """Return the results that meet all filters; one without a setting doesn't meet a filter on it.

    Args:
        records: the results.
        filters: ``KEY=VALUE,...``; the key is one of ``FILTERS`` or a setting such as ``grouper.num_slots``,
            and one of the values must be the result's.

    Raises:
        SettingError: if a filter is malformed, a key is given twice or none of the results has it; names the
            nearest.
        DataError: if nothing is left.
    """
    wanted = _read_filters(filters)
    if not wanted:
        return list(records)
    frame = results_frame(records)
    known = [*FILTERS, *setting_names(frame)]
    met = np.ones(len(frame), bool)
    for key, values in wanted.items():
        if key not in known:
            raise SettingError(
                f"unknown filter '{key}'.{nearest(key, known)} Filters: {', '.join(FILTERS)}; "
                "also settings such as grouper.num_slots, precision or naming.merge."
            )
        told = cast("Series[str]", frame[key].explode())  # a consensus has several seeds
        fits = told.isin(values).groupby(level=0).any()
        if not fits.any():
            there = sorted({text for text in told.dropna() if text})
            raise DataError(
                f"an empty table: none of {len(frame)} results has {key}={','.join(values)}."
                f"{nearest(values[0], there)} There are: {', '.join(there)}."
            )
        met &= fits.to_numpy()
    if not met.any():
        raise DataError(f"an empty table: none of {len(frame)} results has {' and '.join(filters)} together.")
    return [record for record, fits in zip(records, met, strict=True) if fits]


def _read_filters(filters: Sequence[str]) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = {}
    for text in filters:
        key, _, after = text.partition("=")
        key, values = key.strip(), [value.strip() for value in after.split(",") if value.strip()]
        if not key or not values:
            raise SettingError(
                f"filter '{text}': expected KEY=VALUE,..., as in grouper=kmeans,slot_attention"
            )
        if key in wanted:
            raise SettingError(f"filter '{key}' is given twice; several values stand between commas.")
        wanted[key] = values
    return wanted


def merged(frame: DataFrame, by: str = "combination") -> tuple[DataFrame, DataFrame]:
    """Merge the results of a combination, on all seeds and machines, into one row.

    Args:
        frame: from ``results_frame``.
        by: column of what comes together; ``record`` keeps every result apart.

    Returns:
        Rows in order of appearance, and their numbers. Rows have what their results share, lists of their
        ``results`` and of those that are ``done``, one a seed, and texts of ``_TEXTS``. Numbers have columns
        (key, ``mean``, ``std`` or ``count``) over the seeds that have the number; keys are those of metrics,
        and ``clips_per_s [MACHINE]`` for speeds.
    """
    from pandas import DataFrame

    keys = frame[by].map(id) if by == "record" else frame[by]
    groups = frame.groupby(keys, sort=False)
    rows = groups.first()
    rows["results"] = groups["record"].agg(list)
    rows["done"] = rows["results"].map(_one_a_seed)
    for name, text in _TEXTS.items():
        both = zip(rows["results"], rows["done"], strict=True)
        rows[name] = [text(results, done) for results, done in both]
    found = list(_numbers(rows))
    numbers = DataFrame([values for _, values in found], index=[row for row, _ in found], dtype=float)
    if numbers.empty:
        return rows, DataFrame(index=rows.index)
    groups_of_numbers = numbers.groupby(level=0)
    stats = groups_of_numbers.agg(["mean", "std", "count"])
    # In two passes: pandas' one pass is off in the last digits, which a rounded 0.25 shows.
    squares = (numbers - groups_of_numbers.transform("mean")) ** 2
    counts = groups_of_numbers.count()
    deviations = (squares.groupby(level=0).sum() / (counts - 1).where(counts > 1)) ** 0.5
    for key in numbers:
        stats[key, "std"] = deviations[key]
    return rows, stats.reindex(rows.index)


def _one_a_seed(results: list[Record]) -> list[Record]:
    """Choose finished results, of a seed that ran on several machines the newest."""
    newest = sorted((each for each in results if each.status == "done"), key=lambda each: each.date or "")
    return list({each.all_seeds: each for each in newest}.values())


def _numbers(rows: DataFrame) -> Iterator[tuple[Any, dict[str, float | None]]]:
    """Yield the row and the numbers of every finished result; speeds count on every machine."""
    for row, results, done in zip(rows.index, rows["results"], rows["done"], strict=True):
        for each in results:
            if each.status == "done":
                scores = each.metrics.items() if any(each is other for other in done) else ()
                speed = {f"{SPEED} [{each.machine.text}]": each.timing.clips_per_s}
                yield row, {**(speed if each.method is None else {}), **{key: s.value for key, s in scores}}


def sample_of(done: Sequence[Record], key: str) -> Sample | None:
    """Return a metric by video over all seeds; None where results don't have it alike."""
    videos = [record.videos for record in done if key in record.videos.terms]
    if not videos or len(videos) < len(done) or any(each.names != videos[0].names for each in videos):
        return None
    terms = (each.terms[key] for each in videos)
    return Sample(
        tuple(videos[0].names), tuple(Terms(np.array(each.sums), np.array(each.counts)) for each in terms)
    )


def tie_span(done: Sequence[Record], key: str) -> tuple[float, float] | None:
    """Return mean bounds that the order of equal scores leaves a metric; None if as good as equal."""
    spans = [record.metrics[key].tie_span for record in done if key in record.metrics]
    known = [span for span in spans if span is not None]
    low, high = np.mean(known, axis=0).tolist() if known else (0.0, 0.0)
    return (low, high) if high - low > TELLING_SPAN else None


def coverage_of(done: Sequence[Record]) -> float:
    """Return the least share of the frames asked for over seeds, in [0, 1]; NaN if unknown."""
    shares = [math.nan if record.coverage.share is None else record.coverage.share for record in done]
    return min(shares, default=math.nan)


def machines_of(results: Sequence[Record]) -> list[str]:
    """Return the machines that finished a run, in words, sorted; outside results have none."""
    return sorted({each.machine.text for each in results if each.status == "done" and each.method is None})


def telling_settings(rows: DataFrame, shown: Sequence[str] = ()) -> list[str]:
    """Tell rows from the others of the same names by their settings.

    Args:
        rows: from ``merged``.
        shown: settings that have a column of their own.

    Returns:
        By row, text such as ``grouper.num_slots=8, precision=bfloat16``; empty where a row is the only one of
        its names.
    """
    varying = [
        name for name in setting_names(rows) if name not in shown and rows[name].nunique(dropna=False) > 1
    ]
    told = dict.fromkeys(rows.index, "")
    for _, alike in rows.groupby("names"):
        if len(alike) > 1:
            differing = [name for name in varying if alike[name].nunique(dropna=False) > 1]
            for row, values in alike[differing].fillna("none").iterrows():
                told[row] = ", ".join(f"{name}={value}" for name, value in values.items())
    return list(told.values())


def _coverage_text(results: Sequence[Record], done: Sequence[Record]) -> str:
    least = coverage_of(done)
    if math.isnan(least):
        return MISSING
    left_out: dict[str, int] = {}
    for record in done:
        for reason, count in record.coverage.left_out.items():
            left_out[reason] = left_out.get(reason, 0) + count
    return f"{100 * least:.1f} %" + "".join(
        f", {count} {reason}" for reason, count in sorted(left_out.items())
    )


def _status_text(results: Sequence[Record], done: Sequence[Record]) -> str:
    failed = sum(each.status == "failed" for each in results)
    if not failed:
        return "done"
    return f"{failed} of {len(results)} failed" if done else "failed"


_TEXTS: dict[str, Callable[[Sequence[Record], Sequence[Record]], str]] = {
    "id": lambda results, done: ", ".join(each.id for each in results),
    "date": lambda results, done: max(each.date or "" for each in results)[:10],
    "machine": lambda results, done: "; ".join(machines_of(results)),
    "seeds": lambda results, done: str(len(done)),
    "coverage": _coverage_text,
    "seen": lambda results, done: ", ".join(f"{kind} {count}" for kind, count in results[0].seen.items()),
    "status": _status_text,
}
"""Texts of a row by name of the column, made of all its results and of the finished ones, one a seed."""

TEXT_COLUMNS = ("method", *COMPONENTS, "dataset", "split", *_TEXTS)
