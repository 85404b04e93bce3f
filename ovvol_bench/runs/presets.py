"""Presets: YAML files that name the parts of a run and their settings."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ovvol_bench.errors import DataError, SettingError, UnknownNameError, nearest
from ovvol_bench.files import read_yaml

Document = TypeVar("Document", bound=BaseModel)
Kind = Literal["encoder", "grouper", "labeler", "dataset", "metric"]
Seeds = Annotated[tuple[Annotated[int, Field(ge=0, strict=True)], ...], Field(min_length=1)]
"""Strict, as true would else be 1."""


class Part(BaseModel):
    """A component by name, with the settings that differ from its factory's defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class TrainingPreset(BaseModel):
    """How a preset trains one component.

    Attributes:
        component: settings of the component in training, which replace those it is run with.
        recipe: settings that differ from the recipe's defaults.
        precision: of the arithmetic where none is typed; None: the hardware's best.
        dataset: what to learn from.
        validation: what to measure on, or None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    component: dict[str, Any] = Field(default_factory=dict)
    recipe: dict[str, Any] = Field(default_factory=dict)
    precision: Literal["float32", "bfloat16", "float16"] | None = None
    dataset: Part
    validation: Part | None = None


class Preset(BaseModel):
    """The content of a preset file.

    Attributes:
        description: one line for ``--help`` and docs.
        encoder: video to features.
        grouper: features to slots.
        labeler: patches and text to embeddings.
        dataset: what to run on.
        naming: naming settings that differ from the defaults.
        metrics: what to score with, in the order of the table.
        fidelity: ``fast`` or ``reference``.
        seeds: one run each.
        alternatives: settings for other components than the above, by kind and name, for when they
            are chosen on the command line.
        training: by name of the recipe.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    encoder: Part
    grouper: Part
    labeler: Part
    dataset: Part
    naming: dict[str, Any] = Field(default_factory=dict)
    metrics: tuple[Part, ...] = ()
    fidelity: Literal["fast", "reference"] = "fast"
    seeds: Seeds = (0,)
    alternatives: dict[Kind, dict[str, dict[str, Any]]] = Field(default_factory=dict)
    training: dict[str, TrainingPreset] = Field(default_factory=dict)

    def options_for(self, kind: Kind, name: str) -> dict[str, Any]:
        """Settings that the preset has for a component; none for one it doesn't know."""
        own = self.metrics if kind == "metric" else (getattr(self, kind),)
        for part in own:
            if part.name == name:
                return dict(part.options)
        return dict(self.alternatives.get(kind, {}).get(name, {}))


def preset_names() -> list[str]:
    """Names of the presets that come with ovvol-bench."""
    return sorted(Path(file.name).stem for file in _folder().iterdir() if file.name.endswith(".yaml"))


def load_preset(name: str) -> Preset:
    """Read a preset.

    Args:
        name: of a preset that comes with ovvol-bench, or path of a YAML file.

    Raises:
        UnknownNameError: if there is no such preset or file.
        SettingError: if the file isn't YAML, lacks a field or has an unknown or wrong one.
    """
    path = Path(name)
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        if not path.is_file():
            raise UnknownNameError(f"preset file {path} does not exist")
        return parse_yaml(Preset, path)
    if name not in preset_names():
        raise UnknownNameError(
            f"unknown preset '{name}'.{nearest(name, preset_names())} Presets: {', '.join(preset_names())}; "
            "or the path of a .yaml file."
        )
    return parse_yaml(Preset, _folder() / f"{name}.yaml")


def _folder() -> Any:
    return resources.files("ovvol_bench.presets")


def parse_yaml(kind: type[Document], path: Path | Traversable) -> Document:
    """Read YAML as a model.

    Args:
        kind: the model.
        path: of the file.

    Raises:
        SettingError: if it isn't YAML, lacks a field or has an unknown or wrong one; names file and field.
    """
    try:
        data = read_yaml(path)
    except DataError as error:
        raise SettingError(str(error)) from error
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(step) for step in first["loc"]) or "the file"
        raise SettingError(f"{path}: {where}: {first['msg']} (found {first['input']!r:.80})") from error
