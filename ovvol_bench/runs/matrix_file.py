"""Matrix files: YAML that says which components run with each other, over a preset."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from ovvol_bench.errors import SettingError
from ovvol_bench.runs.presets import Kind, Part, Preset, Seeds, parse_yaml
from ovvol_bench.runs.selection import ALL


def _named(value: object) -> object:
    """A bare name is a component without settings of its own."""
    return {"name": value} if isinstance(value, str) else value


def _listed(value: object) -> object:
    """One component is a list of one."""
    return [value] if isinstance(value, str | Mapping) else value


def _plain_if_all(part: Part) -> Part:
    if part.name == ALL and part.options:
        raise ValueError(f"'{ALL}' takes no options; give them to components by name, or with -o")
    return part


NamedPart = Annotated[Part, BeforeValidator(_named), AfterValidator(_plain_if_all)]
Parts = Annotated[tuple[NamedPart, ...], BeforeValidator(_listed), Field(min_length=1)]


class MatrixFile(BaseModel):
    """The content of a matrix file; what is left out stays as the preset has it.

    Attributes:
        encoder: names, or {name, options}; ``all`` stands for every one that is installed.
        grouper: as encoder.
        labeler: as encoder.
        dataset: as encoder, without ``all``.
        seeds: one run each.
        naming: settings, added to the preset's.
        metrics: what to score with, in the order of the table.
        fidelity: ``fast`` or ``reference``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    encoder: Parts | None = None
    grouper: Parts | None = None
    labeler: Parts | None = None
    dataset: Parts | None = None
    seeds: Seeds | None = None
    naming: dict[str, Any] = Field(default_factory=dict)
    metrics: Annotated[tuple[NamedPart, ...], Field(min_length=1)] | None = None
    fidelity: Literal["fast", "reference"] | None = None

    def names(self) -> dict[Kind, list[str]]:
        """The components of the kinds that the file lists."""
        return {kind: [part.name for part in parts] for kind, parts in self._parts().items()}

    def over(self, preset: Preset) -> Preset:
        """The preset with the file's settings, seeds, metrics and fidelity, which count before its own.

        A component's options are added to those that the preset has for it.
        """
        alternatives = {kind: dict(known) for kind, known in preset.alternatives.items()}
        changed: dict[str, Any] = {"alternatives": alternatives, "naming": {**preset.naming, **self.naming}}
        for kind, parts in self._parts().items():
            for part in parts:
                options = {**preset.options_for(kind, part.name), **part.options}
                alternatives.setdefault(kind, {})[part.name] = options
                if part.name == getattr(preset, kind).name:
                    changed[kind] = Part(name=part.name, options=options)
        own = {"seeds": self.seeds, "metrics": self.metrics, "fidelity": self.fidelity}
        return preset.model_copy(update=changed | {name: value for name, value in own.items() if value})

    def _parts(self) -> dict[Kind, tuple[Part, ...]]:
        listed: dict[Kind, tuple[Part, ...] | None] = {
            "encoder": self.encoder,
            "grouper": self.grouper,
            "labeler": self.labeler,
            "dataset": self.dataset,
        }
        return {kind: parts for kind, parts in listed.items() if parts is not None}


def load_matrix(path: Path) -> MatrixFile:
    """Read a matrix file.

    Raises:
        SettingError: if it doesn't exist, isn't YAML, or has an unknown or wrong field; names file and field.
    """
    if not path.is_file():
        raise SettingError(
            f"--matrix {path}: no such file. Expected a YAML file with encoder, grouper, labeler."
        )
    return parse_yaml(MatrixFile, path)
