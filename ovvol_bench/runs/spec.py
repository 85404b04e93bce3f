"""Specification of a run: parts, settings and data, and the identity that follows from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from ovvol_bench.errors import DataError
from ovvol_bench.fidelity import DEFAULT, Fidelity
from ovvol_bench.files import canonical_digest, sealed
from ovvol_bench.runs.clock import (
    DecodeStage,
    EncodeStage,
    GroupStage,
    LabelStage,
    NameStage,
    Stage,
    StoreStage,
)

__all__ = ["PartSpec", "RunSpec", "canonical_digest", "sealed"]

SCHEMA = 1


@dataclass(frozen=True)
class PartSpec:
    """Component of a run.

    Attributes:
        name: as registered.
        options: every setting of the factory, resolved, JSON-able.
        plugin: what registered it, distribution and module.
        version: of that distribution.
        digest: SHA-256 of what the settings don't show: the weights as loaded, or a dataset's
            fingerprint; None for a part without either.
        oracle: whether it is told the truth. Not part of the identity: it follows from the name.
        code: SHA-256 of the code that it is made of.
        located: settings that say where content lies. Its digest is part of the identity, its place isn't.
        seen: videos of the run that its weights are known to have learned from. Not part of the identity: it
            follows from weights and dataset.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    plugin: str = ""
    version: str = ""
    digest: str | None = None
    oracle: bool = False
    located: tuple[str, ...] = ()
    code: str = ""
    seen: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """Identity of the part on any machine.

        Of a plugin that is a single file the place is left out; its version is a hash of its content.
        """
        options = {key: value for key, value in self.options.items() if key not in self.located}
        plugin = "file" if self.plugin.startswith("file ") else self.plugin
        fields = {**asdict(self), "options": options, "plugin": plugin}
        del fields["oracle"], fields["located"], fields["seen"]
        return fields

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> PartSpec:
        """Read what `RunSpec.to_json` wrote of a part."""
        return cls(**{**data, "located": tuple(data["located"])})


@dataclass(frozen=True)
class RunSpec:
    """Combination on one dataset, with everything that its predictions depend on.

    Attributes:
        encoder: video to features; ``digest`` is of its weights.
        grouper: features to slots; ``digest`` is of its weights.
        labeler: patches and text to embeddings; ``digest`` is of its weights.
        dataset: ``digest`` is its fingerprint.
        vocabulary: digest of all names and templates that slots can be named with.
        naming: every naming setting.
        metrics: what the predictions are scored with. Not part of the identity: metrics are
            computed from predictions and can be exchanged without a new run.
        seeds: one seed, or several that ``consensus`` merges.
        consensus: lowest and highest number of groups to merge the seeds into, or None.
        precision: ``float32`` or ``bfloat16``.
        fidelity: ``reference`` or ``fast``.
        limit: only the first so many clips, None for all. Part of the identity, so that a short run
            never passes for a full one.
        core: version of ovvol-bench, whose naming every combination goes through.
        core_code: SHA-256 of those modules of ovvol-bench that predictions depend on.
    """

    encoder: PartSpec
    grouper: PartSpec
    labeler: PartSpec
    dataset: PartSpec
    vocabulary: str
    naming: Mapping[str, Any]
    metrics: tuple[PartSpec, ...]
    seeds: tuple[int, ...] = (0,)
    consensus: tuple[int, int] | None = None
    precision: str = "float32"
    fidelity: Fidelity = DEFAULT
    limit: int | None = None
    core: str = ""
    core_code: str = ""

    @property
    def title(self) -> str:
        """Encoder, grouper and labeler, for humans and folder names."""
        return f"{self.encoder.name}+{self.grouper.name}+{self.labeler.name}"

    @property
    def networks(self) -> dict[str, PartSpec]:
        """Encoder, grouper and labeler by kind."""
        return {"encoder": self.encoder, "grouper": self.grouper, "labeler": self.labeler}

    @property
    def oracle(self) -> bool:
        """Tell whether a part is an oracle."""
        return any(part.oracle for part in self.networks.values())

    @cached_property
    def group_stages(self) -> tuple[GroupStage, ...]:
        """Stages that make the slots, one a seed."""
        return tuple(GroupStage(self.encoder.name, self.grouper.name, seed) for seed in self.seeds)

    @cached_property
    def slot_label_stage(self) -> LabelStage:
        """Stage of a labeler that embeds the slots of this run."""
        return LabelStage(self.labeler.name, run=self.id)

    @cached_property
    def stages(self) -> frozenset[Stage]:
        """Stages that the run needs, shared ones included; of those of its labeler the kind has one."""
        labeler, encoder = self.labeler.name, self.encoder.name
        labels = (LabelStage(labeler), LabelStage(labeler, encoder), self.slot_label_stage)
        own = (NameStage(self.id), StoreStage(self.id))
        return frozenset({DecodeStage(), EncodeStage(encoder), *self.group_stages, *labels, *own})

    @cached_property  # asked for at every stage of every clip, and a millisecond to compute
    def id(self) -> str:
        """First 16 hex digits of the hash of all that predictions depend on.

        Left out, as predictions don't depend on them: device, batch size, output folder, metrics,
        and where weights and data lie (their digests count instead).
        """
        fields = self.to_json()
        del fields["metrics"]
        for kind in ("encoder", "grouper", "labeler", "dataset"):
            fields[kind] = getattr(self, kind).identity
        return canonical_digest(fields)[:16]

    def to_json(self) -> dict[str, Any]:
        """Return the spec as plain JSON types; ``from_json`` reads it back."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunSpec:
        """Read what ``to_json`` wrote.

        Raises:
            DataError: if fields are missing or unknown.
        """
        values = dict(data)
        try:
            for kind in ("encoder", "grouper", "labeler", "dataset"):
                values[kind] = PartSpec.from_json(values[kind])
            values["metrics"] = tuple(map(PartSpec.from_json, values["metrics"]))
            values["seeds"] = tuple(values["seeds"])
            values["consensus"] = values["consensus"] and tuple(values["consensus"])
            return cls(**values)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"not the spec of a run of schema {SCHEMA}: {error}. Was run.json edited, or written by "
                "another version? Run it again."
            ) from error
