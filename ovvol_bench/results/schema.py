"""Schema of result files: one model that checks, holds and describes them (docs/results.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, GetPydanticSchema, ValidationError, WithJsonSchema
from pydantic_core import core_schema

from ovvol_bench.errors import DataError
from ovvol_bench.fidelity import DEFAULT, Fidelity, Precision
from ovvol_bench.files import read_json, sealed

SCHEMA = 1
COMPONENTS = ("encoder", "grouper", "labeler")

_ADVICE = "Results are written by `ovvol-bench run` or `eval`; write this one again."

_INT_OR_FLOAT = core_schema.union_schema(
    [core_schema.int_schema(strict=True), core_schema.float_schema(strict=True)],
    custom_error_type="number",
    custom_error_message="Input should be a number",
)
# Whole numbers stay whole, so that a file is written again as it was read, and its digest holds.
Number = Annotated[float, GetPydanticSchema(lambda *_: _INT_OR_FLOAT), WithJsonSchema({"type": "number"})]


class Fields(BaseModel):
    """Object of a result file; fields that are not named here are allowed and kept."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    def to_json(self) -> dict[str, Any]:
        """Return the object as plain JSON types, with the fields that it was read with."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Configured(Fields):
    """Component with its settings."""

    name: str
    plugin: str | None = None
    """Distribution and module that registered it."""
    version: str | None = None
    options: dict[str, Any] = {}
    """Settings, resolved."""
    located: list[str] = []
    """Settings that say where content lies."""
    code_sha256: str | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """Options but those that say where content lies."""
        return {name: value for name, value in self.options.items() if name not in self.located}


class DatasetRecord(Configured):
    """Dataset that was scored on, and what was asked of it."""

    fingerprint: str
    """Digest of the content."""
    vocabulary: str | None = None
    clips: int | None = None
    frames: int | None = None
    truth_boxes: int | None = None

    @property
    def split(self) -> str:
        """Split, an empty text for datasets without."""
        return str(self.options.get("split") or "")


class PartRecord(Configured):
    """Encoder, grouper or labeler as it ran."""

    weights_sha256: str | None = None
    """Digest of the weights as loaded, null without any."""


class MethodRecord(Fields):
    """Method whose predictions another program wrote."""

    name: str


class FileRecord(Fields):
    """File of predictions."""

    name: str
    format: str | None = None
    sha256: str


class Score(Fields):
    """Value of one metric."""

    value: Number | None
    """Null where it is undefined."""
    count: int
    """Of what it is a mean over."""
    notes: dict[str, Any] = {}
    higher_is_better: bool = True

    @property
    def tie_span(self) -> tuple[float, float] | None:
        """Lowest and highest value over the orders of equal scores; None where ties don't matter."""
        low, high = self.notes.get("tie_span") or (None, None)
        return None if low is None or high is None else (low, high)


class VideoTerms(Fields):
    """Terms of a number by video: it is the sum of ``sums`` over the sum of ``counts``."""

    sums: list[Number]
    counts: list[Number]


class VideosRecord(Fields):
    """Numbers by video, which intervals are made of."""

    names: list[str] = []
    terms: dict[str, VideoTerms] = {}
    """By ``NAME@PROTOCOL``, in the order of the names."""


class Coverage(Fields):
    """Clips asked for and done, frames of these, and why others were left out."""

    clips: int = 0
    done: int = 0
    frames: int = 0
    unread: list[str] = []
    """Frames of these clips that could not be read, as ``VIDEO/FRAME``."""
    skipped: dict[str, int] = {}
    """Reason to count."""
    frames_with_detections: int | None = None
    """Of files of other programs, as the next ones."""
    detections: int | None = None
    entries: int | None = None
    unscored: int | None = None
    out_of_frame: int | None = None

    @property
    def share(self) -> float | None:
        """Share of the frames asked for that is in the numbers, in [0, 1]; None if unknown."""
        if not self.clips:
            return None
        read = self.frames / (self.frames + len(self.unread)) if self.unread else 1
        return self.done / self.clips * read

    @property
    def left_out(self) -> dict[str, int]:
        """Reason to count, of clips and of frames."""
        return self.skipped | ({"frames unread": len(self.unread)} if self.unread else {})


class Timing(Fields):
    """Speed of the session that finished the run."""

    clips: int = 0
    """That the session computed."""
    clips_per_s: float | None = None
    seconds: dict[str, float] = {}
    """By stage; ``decode`` is the time waited for frames."""
    reading_cpu_s: float | None = None
    """CPU seconds that reading frames took in all workers."""


class Machine(Fields):
    """Names and sizes that explain a speed."""

    cpu: str | None = None
    cores: int | None = None
    gpu: str | None = None
    torch: str | None = None
    python: str | None = None

    @property
    def text(self) -> str:
        """The machine in words, as ``NVIDIA H100, 16 cores, torch 2.15``."""
        cores = f"{self.cores} core{'' if self.cores == 1 else 's'}" if self.cores else None
        torch = f"torch {self.torch}" if self.torch else None
        return ", ".join(filter(None, (self.gpu, self.cpu, cores, torch))) or "unknown machine"


class Code(Fields):
    """Version of ovvol-bench."""

    version: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    """Files differ from the commit."""
    sha256: str | None = None
    """Digest of the modules that predictions depend on."""


class Choice(Fields):
    """Metric with its settings, resolved."""

    name: str
    options: dict[str, Any] = {}


class Record(Fields):
    """Result of a run, or of a file of predictions: content of a result file."""

    version: Literal[1] = Field(alias="schema")
    status: Literal["done", "failed"]
    id: str
    """Digest of all that the predictions depend on, 16 hex digits."""
    error: str | None = None
    method: MethodRecord | None = None
    """In place of the three components where another program made the predictions, with ``file``."""
    dataset: DatasetRecord
    encoder: PartRecord | None = None
    grouper: PartRecord | None = None
    labeler: PartRecord | None = None
    oracle: bool = False
    """A component reads the ground truth."""
    seen: dict[str, int] = {}
    """By component: scored videos that its weights are known to have learned from."""
    naming: dict[str, Any] = {}
    seed: int | None = None
    seeds: list[int] | None = None
    """In place of ``seed`` where a consensus merges several."""
    consensus: tuple[int, int] | None = None
    """Lowest and highest number of groups."""
    precision: Precision = "float32"
    fidelity: Fidelity = DEFAULT
    limit: int | None = None
    scoring: list[Choice] | None = None
    file: FileRecord | None = None
    coverage: Coverage = Coverage()
    metrics: dict[str, Score]
    """By ``NAME@PROTOCOL``."""
    left_out: dict[str, str] = {}
    """Metric to the reason why it was not computed."""
    videos: VideosRecord = VideosRecord()
    timing: Timing = Timing()
    code: Code = Code()
    machine: Machine = Machine()
    date: str | None = None
    """UTC, ISO 8601."""
    digest: str | None = None
    """SHA-256 of all else as canonical JSON."""

    @property
    def parts(self) -> dict[str, PartRecord]:
        """Encoder, grouper and labeler by kind; empty where another program made the predictions."""
        return {kind: part for kind in COMPONENTS if (part := getattr(self, kind)) is not None}

    @property
    def names(self) -> tuple[str, ...]:
        """Names of encoder, grouper and labeler, or of the method, then empty ones."""
        return (self.method.name, "", "") if self.method else tuple(x.name for x in self.parts.values())

    @property
    def title(self) -> str:
        """Encoder, grouper and labeler as ``videomae+kmeans+pacl``, or the name of the method."""
        return "+".join(filter(None, self.names))

    @property
    def all_seeds(self) -> tuple[int, ...]:
        """The seed, or those that a consensus merges."""
        return tuple(self.seeds or (self.seed or 0,))

    @property
    def seed_text(self) -> str:
        """The seeds in words, as ``seed 0`` or ``seeds 0, 1, 2``."""
        return f"seed{'s' if len(self.all_seeds) > 1 else ''} {', '.join(map(str, self.all_seeds))}"


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of result files."""
    dialect = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": dialect, **Record.model_json_schema()}


def read_result(path: Path) -> Record:
    """Read one result file.

    Raises:
        DataError: if it can't be read, is malformed, of a newer schema, or was edited.
    """
    return parse_result(read_json(path, strict=True), str(path))


def parse_result(document: Any, source: str) -> Record:
    """Check one decoded JSON document against schema 1.

    Args:
        document: what ``json.load`` returned.
        source: file name, for messages.

    Raises:
        DataError: names ``source``, the first wrong field and what was expected.
    """
    schema = document.get("schema") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise DataError(
            f"{source}: field 'schema': got {schema}, this version reads up to {SCHEMA}. Update ovvol-bench."
        )
    record = validated(Record, document, f"{source}: not a result", _ADVICE)
    if len(record.parts) not in (0, len(COMPONENTS)) or bool(record.parts) == bool(
        record.method and record.file
    ):
        raise DataError(
            f"{source}: not a result: expected the fields {', '.join(COMPONENTS)}, or method and file "
            f"in their place. {_ADVICE}"
        )
    check_digest(
        document,
        source,
        "Results are never edited; score the run again with `ovvol-bench eval`, or run it again.",
    )
    return record


Model = TypeVar("Model", bound=BaseModel)


def validated(model: type[Model], document: object, problem: str, advice: str) -> Model:
    """Read a decoded JSON document into a model.

    Args:
        model: class of the document.
        document: what ``json.load`` returned.
        problem: how the message begins: the file, and what it is not.
        advice: how the message ends.

    Raises:
        DataError: names the first wrong field, what was expected, and how many others are wrong.
    """
    try:
        return model.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"])) or "(whole file)"
        others = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        raise DataError(f"{problem}: field '{field}': {first['msg']}{others}. {advice}") from None


def check_digest(document: dict[str, Any], source: str, advice: str) -> None:
    """Refuse a document that has a digest of other content.

    Raises:
        DataError: names ``source``, and ends with ``advice``.
    """
    if "digest" in document and sealed(document)["digest"] != document["digest"]:
        raise DataError(
            f"{source}: field 'digest' differs from the content: the file was edited after it was written. "
            f"{advice}"
        )


def is_reference(document: object) -> bool:
    """Tell whether a decoded JSON document holds published numbers (see ``references``)."""
    return isinstance(document, dict) and document.get("reference") is True


def claims_to_be_result(document: object) -> bool:
    """Tell whether a decoded JSON document looks like a result, be it a broken one."""
    return isinstance(document, dict) and {"schema", "status"} <= document.keys()
