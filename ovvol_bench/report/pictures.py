"""Pictures of a result, made of its JSON alone: error causes, gains, confusion, curves, sizes and speeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovvol_bench.errors import DataError
from ovvol_bench.files import below, file_stem
from ovvol_bench.report.charts import save
from ovvol_bench.report.error_charts import causes_chart, gains_chart, rates_chart
from ovvol_bench.report.name_charts import confusion_chart, curves_chart
from ovvol_bench.results.schema import Record

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("errors", "confusion", "pr_curves", "detrate_by")
"""Metrics whose notes pictures are made of."""

_KINDS: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
    "errors": (causes_chart, ("right_objects", "right_boxes")),
    "gains": (gains_chart, ("right_objects",)),
    "confusion": (confusion_chart, ("naming_balanced",)),
    "curves": (curves_chart, ("pr_curves",)),
    "rates": (rates_chart, ("detrate_by_size", "detrate_by_motion")),
}
"""Chart of each picture, and the numbers whose notes it takes, under one protocol and threshold."""


def write_pictures(result: Record, folder: Path) -> list[Path]:
    """Draw all pictures that a result has the notes for.

    Args:
        result: of a run or a file of predictions, see ``read_result``.
        folder: gets the PNG files, ``errors@vid-reference.png`` and so on; made if needed.

    Returns:
        The files.

    Raises:
        DataError: if the result has nothing to draw.
        SettingError: if the folder can't be written to.
    """
    drawn = [(name, chart(*notes, about)) for name, chart, notes, about in _charts(result)]
    if not drawn:
        raise DataError(
            f"the result has no data of the metrics that pictures are made of: {', '.join(METRICS)}. Compute "
            "them: ovvol-bench eval --pictures FOLDER"
        )
    return [save(figure, below(folder, f"{file_stem(name)}.png")) for name, figure in drawn]


def subject(result: Record, protocol: str) -> str:
    """Name dataset and split, protocol, how much was scored, and the method, if known."""
    dataset, coverage = result.dataset, result.coverage
    amount = f"{coverage.done:,} clips, {coverage.frames:,} frames"
    method = " + ".join(filter(None, result.names))
    known = [f"{dataset.name} {dataset.split}".strip(), protocol, amount, method]
    return "   ·   ".join(each for each in known if each)


def _charts(result: Record) -> Iterator[tuple[str, Callable[..., Figure], list[dict[str, Any]], str]]:
    """Yield name, chart, notes and second line of every picture."""
    metrics = result.metrics
    for kind, (chart, numbers) in _KINDS.items():
        for key in metrics:
            # Behind the number stand its threshold, unless it is 0.5, and the protocol: _75@vid-devkit.
            found = re.fullmatch(rf"{numbers[0]}((?:_\d+)?@(.+))", key)
            scores = (
                [metrics[f"{n}{found[1]}"] for n in numbers if f"{n}{found[1]}" in metrics] if found else []
            )
            if not found or len(scores) < len(numbers) or not any(score.count for score in scores):
                continue
            notes = [score.notes for score in scores]
            if kind != "gains" or "gains" in notes[0]:
                yield f"{kind}{found[1]}", chart, notes, subject(result, found[2])
