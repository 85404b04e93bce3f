"""Combination while it runs: clips that it needs and has, skipped clips, the failure."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping

from ovvol_bench.files import read_json_object, write_json
from ovvol_bench.predictions import ClipPrediction, frame_name
from ovvol_bench.runs.predictions import PredictionWriter
from ovvol_bench.runs.spec import RunSpec
from ovvol_bench.runs.store import RunFolder
from ovvol_bench.types import ClipInfo, Localization

log = logging.getLogger(__name__)

SHARD_CLIPS = 64
SHARD_SECONDS = 5.0


class Run:
    """A combination in the making; its folder is claimed by this process.

    Attributes:
        spec: what it is.
        folder: where it is kept.
        failure: what ended it early, None while all is well.
        done: ids of the clips that have a prediction, stored or about to be.
        computed: clips added by this call.
        skipped: clip id to the reason and the details, for clips that failed in this call.
        unread: name of a frame to why it could not be read, for clips that have a prediction without it.

    Args:
        spec: what it is.
        folder: where it is kept.
        failure: why it can't start, None if it can.
        beside: combinations that run at the same time, this one included: each stores what it has after
            5 seconds of its own work, so that a large matrix does not spend its time on small files.
        soft_masks: whether soft masks are kept with the predictions.
    """

    def __init__(
        self,
        spec: RunSpec,
        folder: RunFolder,
        failure: Exception | None = None,
        beside: int = 1,
        soft_masks: bool = False,
    ) -> None:
        self.spec = spec
        self.folder = folder
        self.failure = failure
        self.soft_masks = soft_masks
        self._writer = PredictionWriter(folder.predictions)
        if soft_masks and (hard := self._writer.without_soft_masks()):
            log.warning(
                "%d clips of %s are there without soft masks, which are kept for further clips only; "
                "--overwrite always computes all of them again",
                hard,
                folder.path,
            )
        self.done = set(self._writer.done())
        self.computed = 0
        self.skipped: dict[str, tuple[str, str]] = {}
        self.unread: dict[str, str] = (
            read_json_object(folder.unread_file) if folder.unread_file.exists() else {}
        )
        self._pending: list[ClipPrediction] = []
        self._flushed = time.monotonic()
        self._patience = SHARD_SECONDS * beside

    def needs(self, clip_id: str) -> bool:
        """Tell whether the clip is still to be computed."""
        return self.failure is None and clip_id not in self.done and clip_id not in self.skipped

    def add(self, info: ClipInfo, localization: Localization) -> None:
        """Take in what a clip yielded, ``input_size`` included; it is stored with the next shard."""
        self.done.add(info.id)
        self.computed += 1
        self.unread |= {
            frame_name(info.video, info.frame_indices[place]): reason
            for place, reason in info.unread.items()
            if place >= info.context
        }
        self._pending.append(ClipPrediction(info, localization.input_size or info.frame_size, localization))
        if len(self._pending) >= SHARD_CLIPS or time.monotonic() - self._flushed > self._patience:
            self.flush()

    def skip(self, clip_ids: Iterable[str], reason: str, details: str) -> None:
        """Give up on clips that the run hasn't got, for a reason that results count."""
        for clip_id in clip_ids:
            if self.needs(clip_id):
                self.skipped[clip_id] = (reason, details)

    def flush(self) -> None:
        """Store what is pending as a shard, after the reasons why it lacks frames."""
        if self._pending:
            if any(clip.info.unread for clip in self._pending):
                write_json(self.folder.unread_file, self.unread)
            self._writer.write(self._pending)
        self._pending = []
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Store what is pending, and the details of skipped clips as ``skipped.json``."""
        self.flush()
        details = {clip_id: text for clip_id, (_, text) in sorted(self.skipped.items())}
        path = self.folder.path / "skipped.json"
        if details:
            write_json(path, details)
        else:
            path.unlink(missing_ok=True)

    def reasons(self) -> Mapping[str, int]:
        """Count skipped clips by reason."""
        return Counter(reason for reason, _ in self.skipped.values())
