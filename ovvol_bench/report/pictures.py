"""Pictures of a result, made of its JSON alone: error causes, gains, confusion, curves, sizes and speeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovvol_bench.errors import DataError
from ovvol_bench.files import below, file_stem, replacing
from ovvol_bench.results.schema import Record, Score

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRICS = ("errors", "confusion", "pr_curves", "detrate_by")
"""The metrics whose notes pictures are made of."""


def write_pictures(result: Record, folder: Path) -> list[Path]:
    """Draw what a result has pictures of.

    Args:
        result: of a run or a file of predictions, see ``read_result``.
        folder: gets the PNG files, ``errors@vid-reference.png`` and so on; made if needed.

    Returns:
        The files.

    Raises:
        DataError: if the result has nothing to draw.
        SettingError: if the folder can't be written to.
    """
    drawn = [(name, draw()) for name, draw in _pictures(result)]
    if not drawn:
        raise DataError(
            f"the result has no data of the metrics that pictures are made of: {', '.join(METRICS)}. Compute "
            "them: ovvol-bench eval --pictures FOLDER"
        )
    written = []
    for name, figure in drawn:
        path = below(folder, f"{file_stem(name)}.png")
        with replacing(path) as temporary:
            figure.savefig(temporary)
        written.append(path)
    return written


def subject(result: Record, protocol: str) -> str:
    """Dataset and split, protocol, how much was scored, and the method, or else the file, if known."""
    dataset, coverage = result.dataset, result.coverage
    amount = f"{coverage.done:,} clips, {coverage.frames:,} frames"
    method = " + ".join(filter(None, result.names))
    known = [f"{dataset.name} {dataset.split}".strip(), protocol, amount, method]
    return "   ·   ".join(each for each in known if each)


def _pictures(result: Record) -> Iterator[tuple[str, Callable[[], Figure]]]:
    """The name of every picture, and what draws it."""
    from ovvol_bench.report.error_charts import causes_chart, gains_chart
    from ovvol_bench.report.name_charts import confusion_chart, curves_chart
    from ovvol_bench.report.rate_charts import rates_chart

    kinds: dict[str, tuple[Callable[..., Figure], tuple[str, ...]]] = {
        "errors": (causes_chart, ("right_objects", "right_boxes")),
        "gains": (gains_chart, ("right_objects",)),
        "confusion": (confusion_chart, ("naming_balanced",)),
        "curves": (curves_chart, ("pr_curves",)),
        "rates": (rates_chart, ("detrate_by_size", "detrate_by_motion")),
    }
    for kind, (chart, numbers) in kinds.items():
        for variant, notes in _notes(result.metrics, numbers):
            if kind != "gains" or "gains" in notes[0]:
                text = subject(result, variant.split("@", 1)[1])
                yield f"{kind}{variant}", partial(chart, *notes, text)


def _notes(
    metrics: Mapping[str, Score], numbers: Sequence[str]
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """The notes of some numbers under every protocol and threshold that all of them are there for.

    Yields:
        What stands behind the name of the numbers, as ``@vid-reference`` or ``_75@vid-devkit``, and the
        notes, in the order of the numbers.
    """
    for key in metrics:
        found = re.fullmatch(rf"{numbers[0]}((?:_\d+)?@.+)", key)
        scores = [metrics.get(f"{number}{found[1]}") for number in numbers] if found else []
        if found and all(scores) and any(score.count for score in scores if score):
            yield found[1], [score.notes for score in scores if score]
