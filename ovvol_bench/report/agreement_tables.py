"""Tables of how far ``fast`` is from ``reference``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ovvol_bench.report.charts import percent
from ovvol_bench.results.layout import MISSING, Grid, is_share, number_text, with_unit
from ovvol_bench.results.throughput import Agreement, MetricPair

_HEADERS = ("method", "size", "precision", "clips", "patches %", "names %", "cosine", "least cosine")
_NOTES = (
    "patches: share that the same slot wins; names: share of the slots with a patch that have the same name,"
    " or none; cosine: of patch embeddings",
)


def agreement_grids(entries: Sequence[Agreement]) -> Iterator[Grid]:
    """One table of slots, names and embeddings, and one of metrics; none where nothing was compared."""
    compared = [entry for entry in entries if entry.error is None]
    failed = tuple(f"failed: {each.method}: {each.error}" for each in entries if each.error is not None)
    if compared:
        cells = tuple(_cells(entry) for entry in compared)
        numeric = (False,) * 3 + (True,) * 5
        title = "Fast against reference, same clips and draws"
        counts = (_HEADERS.index("clips"), _HEADERS.index("cosine"))
        yield Grid(title, _HEADERS, numeric, cells, _NOTES + failed, expendable=counts, prose=(0,))
        yield _metrics(compared)


def _cells(entry: Agreement) -> tuple[str, ...]:
    cosine = entry.patch_cosine
    return (
        entry.method,
        "x".join(map(str, entry.size)),
        entry.precision,
        str(entry.clips),
        percent(entry.patches_same, 2),
        percent(entry.names_same, 2),
        *(f"{cosine[name]:.5f}" if cosine else MISSING for name in ("mean", "least")),
    )


def _metrics(entries: Sequence[Agreement]) -> Grid:
    """A line a combination and number."""
    cells = tuple(
        (entry.method, "x".join(map(str, entry.size)), *_pair(name, pair))
        for entry in entries
        for name, pair in entry.metrics.items()
    )
    headers = ("method", "size", "metric", "reference", "fast", "difference")
    numeric = (False,) * 3 + (True,) * 3
    difference = (headers.index("difference"),)
    return Grid(
        "Metrics of fast against reference", headers, numeric, cells, (), expendable=difference, prose=(0,)
    )


def _pair(name: str, pair: MetricPair) -> tuple[str, ...]:
    """The name, both numbers and the difference; of shares in percent, and in points."""
    share = is_share(name, (pair.reference, pair.fast))
    both = (number_text(value, share, decimals=2) for value in (pair.reference, pair.fast))
    return with_unit(name, share), *both, number_text(pair.difference, share, decimals=2, sign="+")
