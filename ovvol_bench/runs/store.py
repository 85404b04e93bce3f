"""Run folders: one folder an identity, guarded by a lock, continued where it was cut off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import json_ready, make_folder, read_json_object, remove_leftovers, sealed, write_json
from ovvol_bench.locks import claimed
from ovvol_bench.runs.spec import SCHEMA, RunSpec


class Overwrite(StrEnum):
    """What to do when a run's folder is there already.

    ``NEVER`` refuses if the run is complete, ``MISSING`` computes only what is missing, ``ALWAYS``
    starts anew. A run that was cut off is continued by the first two.
    """

    NEVER = "never"
    MISSING = "missing"
    ALWAYS = "always"


class RunFolder:
    """``<root>/<dataset>/<encoder>+<grouper>+<labeler>/<id>/`` with its files.

    Attributes:
        path: the folder.
        predictions: folder of the prediction shards.
        spec_file: ``run.json``, the spec.
        result_file: ``result.json``.
        unread_file: ``unread.json``, name of a frame to why it could not be read; only if there are such.
        overlays: folder of pictures.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.predictions = path / "predictions"
        self.spec_file = path / "run.json"
        self.result_file = path / "result.json"
        self.unread_file = path / "unread.json"
        self.overlays = path / "overlays"

    @classmethod
    def of(cls, root: Path, spec: RunSpec) -> RunFolder:
        """Where the run with this spec lives; touches no file."""
        return cls(root / spec.dataset.name / spec.title / spec.id)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Hold the folder for this process; the system lets go of it even if the process is killed.

        Raises:
            SettingError: if another process holds it.
        """
        with claimed(self.path / "lock", "give this run another folder with --output"):
            yield

    def start(self, spec: RunSpec, overwrite: Overwrite) -> None:
        """Make the folder ready to be written or continued; call it while the folder is claimed.

        Raises:
            SettingError: if the run is complete and ``overwrite`` is ``NEVER``.
        """
        if overwrite is Overwrite.NEVER and self.complete:
            raise SettingError(
                f"{self.path} holds a complete run already, and --overwrite is 'never'. "
                "Use --overwrite missing to keep it, or --overwrite always to compute it again."
            )
        if overwrite is Overwrite.ALWAYS:
            self.result_file.unlink(missing_ok=True)
            self.unread_file.unlink(missing_ok=True)
            for folder in (self.predictions, self.overlays):
                shutil.rmtree(folder, ignore_errors=True)
        for folder in (self.path, self.predictions, self.overlays):
            remove_leftovers(folder)
        make_folder(self.predictions)
        write_json(self.spec_file, {"schema": SCHEMA, "id": spec.id, "spec": spec.to_json()})

    @property
    def complete(self) -> bool:
        """Whether the run came to its end: there is a result and it is not of a failure."""
        return self.result_file.exists() and read_json_object(self.result_file).get("status") == "done"

    def read_spec(self) -> RunSpec:
        """The spec in ``run.json``.

        Raises:
            DataError: if it is missing, malformed or of another schema.
        """
        data = self.read_json()
        if data.get("schema") != SCHEMA or not isinstance(data.get("spec"), dict):
            raise DataError(
                f"{self.spec_file}: expected a run of schema {SCHEMA}, found {data.get('schema')!r}"
            )
        return RunSpec.from_json(data["spec"])

    def read_json(self) -> dict[str, Any]:
        """The content of ``run.json``: schema, id and spec.

        Raises:
            DataError: if it is missing or malformed.
        """
        return read_json_object(self.spec_file)

    def read_result(self) -> dict[str, Any] | None:
        """The result, or None before there is one."""
        return read_json_object(self.result_file) if self.result_file.exists() else None

    def write_result(self, result: dict[str, Any]) -> dict[str, Any]:
        """Write ``result.json`` atomically.

        Returns:
            What was written: the result with the digest of its content.
        """
        written = sealed(json_ready(result))
        write_json(self.result_file, written)
        return written
