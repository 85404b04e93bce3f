"""Output of a training for people: a log of numbers, TensorBoard, pictures, the curve."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from ovvol_bench.files import replacing, write_text

Row = dict[str, Any]
"""Numbers of one step by name, ``step`` among them."""

Pictures = Mapping[str, npt.NDArray[np.uint8]]
"""(H, W, 3) uint8 by name."""

LOG = "log.jsonl"


class Board:
    """Writes the numbers of a training as they come; by one process.

    Args:
        folder: of the training.
        step: steps done; what was noted after them, before a crash, is taken back.
    """

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        rows = [row for row in read_log(folder) if row["step"] <= step]
        write_text(folder / LOG, "".join(json.dumps(row) + "\n" for row in rows))
        self._log = (folder / LOG).open("a", encoding="utf-8")
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1 if step else None)

    def add(self, step: int, numbers: Mapping[str, float], pictures: Pictures = MappingProxyType({})) -> None:
        """Note the numbers of a step or a validation, and keep its pictures."""
        import cv2

        if numbers:
            numbers = {  # digits beyond those of float32 say nothing
                name: float(f"{value:.9g}") if isinstance(value, float) else value
                for name, value in numbers.items()
            }
            self._log.write(json.dumps({"step": step, **numbers}) + "\n")
            self._log.flush()
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        for name, picture in pictures.items():
            self._writer.add_image(name, picture, step, dataformats="HWC")
            with replacing(self._folder / "pictures" / f"{name}.png") as temporary:
                # Not imwrite, which fails in silence.
                temporary.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())

    def close(self) -> None:
        """Close the files and draw the curve."""
        self._log.close()
        self._writer.close()
        draw_curve(self._folder)


def read_log(folder: Path) -> Iterator[Row]:
    """Rows of a training's log; a last line that was cut off is left out."""
    path = folder / LOG
    if not path.is_file():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return


def draw_curve(folder: Path) -> None:
    """Draw losses over steps into ``curve.png``; nothing if none were noted."""
    rows = list(read_log(folder))
    curves = {
        name: [(row["step"], row[name]) for row in rows if name in row]
        for name in ("loss", "validation_loss")
    }
    if not curves["loss"]:
        return
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss")
    for name, points in curves.items():
        if points:
            axes.plot(*zip(*points, strict=True), label=name.replace("_", " "))
    axes.legend()
    with replacing(folder / "curve.png") as temporary:
        figure.savefig(temporary, dpi=100)
