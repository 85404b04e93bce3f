"""The hooks that a plugin may implement, each as a function marked with ``@hookimpl``.

A plugin is a module (named by an entry point in group ``ovvol_bench``, or a file given with
``--plugin``) with one or more of these functions in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from typing import Any

    import click
    import numpy as np
    import numpy.typing as npt

    from ovvol_bench.registry.entries import Entry
    from ovvol_bench.types import ClipInfo, Localization

PROJECT = "ovvol_bench"

EVENTS = (
    "ovvol_run_started",
    "ovvol_clip_localized",
    "ovvol_run_finished",
    "ovvol_training_started",
    "ovvol_training_measured",
    "ovvol_training_finished",
)
"""Hooks that the harness calls while it runs; the others are asked once, when a plugin loads."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as the implementation of the hook of the same name."""

_hookspec = pluggy.HookspecMarker(PROJECT)


@_hookspec
def ovvol_encoders() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Encoders: video to space-time features (`ovvol_bench.Encoder`).

    Example:
        @hookimpl
        def ovvol_encoders():
            yield Entry("dino", "my_package.dino:Dino", "DINO ViT-S/16, last block")
    """


@_hookspec
def ovvol_groupers() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Groupers: features to slots (`ovvol_bench.Grouper`).

    Example:
        @hookimpl
        def ovvol_groupers():
            yield Entry("kmeans", "my_package.kmeans:KMeans", "k-means over space-time features")
    """


@_hookspec
def ovvol_labelers() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Labelers: patches and text into one embedding space (`ovvol_bench.Labeler`).

    Example:
        @hookimpl
        def ovvol_labelers():
            yield Entry("maskclip", "my_package.maskclip:MaskClip", "CLIP without its last pooling")
    """


@_hookspec
def ovvol_datasets() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Datasets: clips over one vocabulary (`ovvol_bench.Dataset`).

    Example:
        @hookimpl
        def ovvol_datasets():
            yield Entry("ytvis", "my_package.ytvis:YouTubeVis", "validation half of train")
    """


@_hookspec
def ovvol_metrics() -> Iterable[Entry]:  # type: ignore[empty-body]
    """Metrics: localizations and truth to numbers (`ovvol_bench.Metric`).

    Example:
        @hookimpl
        def ovvol_metrics():
            yield Entry("corloc", "my_package.corloc:CorLoc", "share of frames with a box on an object")
    """


@_hookspec
def ovvol_commands() -> Iterable[click.Command]:  # type: ignore[empty-body]
    """Further commands of ``ovvol-bench``. The harness's own commands can't be replaced.

    Example:
        @click.command("submit")
        @click.argument("run", type=click.Path(exists=True))
        def submit(run):
            '''Send a run to the leaderboard.'''

        @hookimpl
        def ovvol_commands():
            yield submit
    """


@_hookspec
def ovvol_run_started(spec: Mapping[str, Any]) -> None:
    """Called once before the first clip of a run.

    Args:
        spec: what will run, as written to the run folder's ``run.json``.

    Example:
        @hookimpl
        def ovvol_run_started(spec):
            tracker.init(config=spec)
    """


@_hookspec
def ovvol_clip_localized(run_id: str, localization: Localization, clip: ClipInfo) -> None:
    """Called for every clip of a run as it finishes, in no promised order; writes to no argument.

    The runs of a matrix go through a clip side by side: ``run_id`` tells whose localization it is.

    Args:
        run_id: of the run, the ``id`` of its ``run.json`` and ``result.json``.
        localization: the named segments of the clip.
        clip: its identity and truth.

    Example:
        @hookimpl
        def ovvol_clip_localized(run_id, localization, clip):
            tracker.log({f"{run_id}/segments": len(localization)})
    """


@_hookspec
def ovvol_run_finished(result: Mapping[str, Any]) -> None:
    """Called once a run with its result, of failed runs too.

    Args:
        result: as written to ``result.json``.

    Example:
        @hookimpl
        def ovvol_run_finished(result):
            tracker.log(result["metrics"])
    """


@_hookspec
def ovvol_training_started(spec: Mapping[str, Any], folder: Path, step: int, steps: int) -> None:
    """Called once before the first step of a training, in the first of its processes.

    Args:
        spec: what is trained on what, as written to ``training.json``, and its ``id``.
        folder: of the training.
        step: steps that were done before; more than 0 where an earlier training goes on.
        steps: that it will have done when it ends.

    Example:
        @hookimpl
        def ovvol_training_started(spec, step):
            tracker.init(id=spec["id"], config=spec, resume=step > 0)
    """


@_hookspec
def ovvol_training_measured(
    training_id: str, step: int, numbers: Mapping[str, float], pictures: Mapping[str, npt.NDArray[np.uint8]]
) -> None:
    """Called for every row of ``log.jsonl``, in the first process: some steps, and every validation.

    Args:
        training_id: of the training, the ``id`` of its spec.
        step: steps done.
        numbers: by name. Of a step the losses, ``learning_rate``, ``gradient_norm``, ``seconds`` and
            ``examples_per_s``; of a validation ``validation_loss`` and whatever else the recipe measures.
        pictures: (H, W, 3) uint8 by name, of a validation; else empty.

    Example:
        @hookimpl
        def ovvol_training_measured(training_id, step, numbers):
            tracker.log(numbers, step=step)
    """


@_hookspec
def ovvol_training_finished(result: Mapping[str, Any]) -> None:
    """Called once at the end of a training, of one that failed too, in the first process.

    Args:
        result: ``id`` of the training; ``status``: ``done``, ``stopped`` before its last step, or ``failed``;
            ``step`` and ``steps``, done and in all; ``weights``, path of the file or None; ``error``, the
            message or None.

    Example:
        @hookimpl
        def ovvol_training_finished(result):
            tracker.finish(failed=result["status"] == "failed")
    """
