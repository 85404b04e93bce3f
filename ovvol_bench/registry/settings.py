"""Settings of a component: the keyword-only parameters of its factory, read, checked and coerced."""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, get_type_hints

from ovvol_bench.errors import MissingSettingError, PluginError, SettingError, nearest
from ovvol_bench.registry.annotations import Role, role_of, without_roles
from ovvol_bench.registry.lazy import Lazy, hands_on, joined, joined_documentation

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Factory = Callable[..., Any]


@dataclass(frozen=True)
class Setting:
    """A setting of a component.

    Attributes:
        name: as in ``-o KIND.NAME=VALUE`` and in the factory's signature.
        type: the annotation as text.
        default: its value where not set; None for required settings.
        required: whether there is no default.
        annotation: the annotation itself, resolved.
        role: what it is to a run; None for a plain setting.
    """

    name: str
    type: str
    default: Any
    required: bool
    annotation: Any
    role: Role | None = None


def read_settings(factory: Factory, given: int = 0) -> list[Setting]:
    """Read the settings that a factory's signature declares, in its order.

    Args:
        factory: of a component, or of a recipe.
        given: how many parameters come first that the harness fills in and nobody sets.

    Raises:
        PluginError: if a parameter is not keyword-only, has no annotation, or one that can't be resolved.
    """
    factory = factory.declaration if isinstance(factory, Lazy) else factory
    if inspect.isclass(factory) and not _owners(factory):
        return []  # the ``__init__`` of nn.Module declares no settings
    parameters = dict(list(_signature(factory).parameters.items())[given:])
    for parameter in parameters.values():
        if parameter.kind is not parameter.KEYWORD_ONLY:
            raise PluginError(
                f"factory parameter '{parameter}' is not keyword-only. Every parameter is a setting: "
                f"put them after a bare '*', as in def build(*, num_slots: int = 15)."
            )
        if parameter.annotation is parameter.empty:
            raise PluginError(
                f"factory parameter '{parameter.name}' has no type, so its values can't be checked. "
                f"Annotate it, as in def build(*, {parameter.name}: int = 15)."
            )
    settings = []
    for name, annotation in _resolved_annotations(factory, parameters).items():
        try:
            role = role_of(annotation)
        except PluginError as error:
            raise PluginError(f"factory parameter '{name}': {error}") from error
        required = parameters[name].default is inspect.Parameter.empty
        default = None if required else parameters[name].default
        settings.append(Setting(name, _type_text(annotation), default, required, annotation, role))
    return settings


def read_documentation(factory: Factory) -> str:
    """Return a factory's own docstring, indentation removed; empty without any.

    Lines of bases about the settings that a class hands on to them are added.
    """
    factory = factory.declaration if isinstance(factory, Lazy) else factory
    own = factory.func if isinstance(factory, partial) else factory
    text = inspect.cleandoc(own.__doc__ or "")
    for owner in _owners(own) if inspect.isclass(own) else ():
        if owner is not own:
            text = joined_documentation(text, inspect.cleandoc(owner.__doc__ or ""), owner.__name__)
    return text


def _signature(factory: Factory) -> inspect.Signature:
    """Signature of a factory, with what a class hands on to its bases; their types are resolved."""
    if isinstance(factory, partial):

        def stub() -> None: ...

        stub.__signature__ = _signature(factory.func)  # type: ignore[attr-defined]
        return inspect.signature(partial(stub, *factory.args, **factory.keywords))
    signature = inspect.signature(factory)
    for owner in _owners(factory)[1:] if inspect.isclass(factory) else ():
        inherited = inspect.signature(vars(owner)["__init__"])
        own = {each.name: each for each in inherited.parameters.values() if each.kind is each.KEYWORD_ONLY}
        types_of = _resolved_annotations(owner, own)
        typed = [each.replace(annotation=types_of.get(name, each.annotation)) for name, each in own.items()]
        others = [each for each in inherited.parameters.values() if each.kind is each.VAR_KEYWORD]
        signature = joined(signature, inspect.Signature([*typed, *others]))
    return signature


def _owners(factory: type) -> list[Any]:
    """List the classes whose ``__init__`` declare the settings; each but the last hands some on."""
    found = []
    for owner in [each for each in factory.__mro__ if "__init__" in vars(each)]:
        if owner.__module__.partition(".")[0] in ("torch", "builtins"):
            break
        found.append(owner)
        if not hands_on(inspect.signature(vars(owner)["__init__"])):
            break
    return found


def _resolved_annotations(factory: Factory, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Types of the parameters alone: the return type may name what only type checkers import."""
    function = inspect.unwrap(getattr(factory, "func", factory))
    holder = function.__init__ if inspect.isclass(function) else function
    alone = types.SimpleNamespace(__annotations__={name: p.annotation for name, p in parameters.items()})
    try:
        return get_type_hints(alone, globalns=getattr(holder, "__globals__", {}), include_extras=True)
    except Exception as error:
        raise PluginError(
            f"the types of the factory's parameters can't be resolved ({error}). "
            "Name built-in types, or types that the module imports when it is loaded."
        ) from error


def _type_text(annotation: Any) -> str:
    """Write an annotation as text: without its role, limits as ``1 <= int <= 8``."""
    text = inspect.formatannotation(without_roles(annotation))
    text = re.sub(r"^(?:typing\.)?Optional\[(.+)\]$", r"\1 | None", text)
    limited = r"(?:typing\.)?Annotated\[(int|float)((?:, (?:Ge|Gt|Le|Lt)\(\w+=[-+.\w]+\))+)\]"
    return re.sub(limited, _with_limits, text)


def _with_limits(found: re.Match[str]) -> str:
    """Write the largest lower and the smallest upper limit of a number before and after its type."""
    limits = [(sign, float(value)) for sign, value in re.findall(r"(\w+)=([^)]+)", found[2])]
    lower = max(((value, sign) for sign, value in limits if sign in ("ge", "gt")), default=None)
    upper = min(((value, sign) for sign, value in limits if sign in ("le", "lt")), default=None)
    before = f"{lower[0]:.10g} {'<=' if lower[1] == 'ge' else '<'} " if lower else ""
    after = f" {'<=' if upper[1] == 'le' else '<'} {upper[0]:.10g}" if upper else ""
    return f"{before}{found[1]}{after}"


class SettingsOf:
    """Settings of a component or recipe, and the check of values against them.

    Args:
        kind: what stands before the dot in ``-o KIND.SETTING=VALUE``.
        name: of the component or recipe.
        settings: what its factory declares.
        see: the command that shows them; by default ``show KIND NAME``.
    """

    def __init__(self, kind: str, name: str, settings: Sequence[Setting], see: str | None = None) -> None:
        self.kind, self.name = kind, name
        self.settings = {setting.name: setting for setting in settings}
        self._see = f"See: ovvol-bench {see or f'show {kind} {name}'}"

    def values(self, options: Mapping[str, object]) -> dict[str, Any]:
        """Return every setting's value: as given and checked, or its default.

        Args:
            options: values by setting. Text is read as the setting's type: "8" for an int, "true" for a
                bool, "none" or "null" where None is allowed, "1,2" for a sequence.

        Raises:
            SettingError: if a setting is unknown, missing or has a wrong value.
        """
        for name in options:
            if name not in self.settings:
                raise SettingError(
                    f"{self.kind} '{self.name}' has no setting '{name}'.{nearest(name, self.settings)} "
                    f"Settings: {', '.join(self.settings) or 'none'}. {self._see}"
                )
        for setting in self.settings.values():
            if setting.required and setting.name not in options:
                raise MissingSettingError(
                    f"{self.kind} '{self.name}' needs the setting '{setting.name}' ({setting.type}). "
                    f"Set it with -o {self.kind}.{setting.name}=VALUE. {self._see}"
                )
        # A default is checked as well: its own type may refuse it.
        return {
            name: self._checked(setting, options.get(name, setting.default))
            for name, setting in self.settings.items()
        }

    def json_values(self, options: Mapping[str, object]) -> dict[str, Any]:
        """Return `values` in types that JSON has."""
        return {
            name: _adapter(self.settings[name]).dump_python(value, mode="json")
            for name, value in self.values(options).items()
        }

    def _checked(self, setting: Setting, given: object) -> Any:
        """Return the first reading of a value that its type takes."""
        from pydantic import ValidationError

        adapter, readings = _adapter(setting), [given]
        if isinstance(given, str):  # as typed: it may stand for None or for a sequence
            none = [None] if given.lower() in ("none", "null") else []
            readings = [*none, given, [part.strip() for part in given.strip("[]()").split(",")]]
        reasons: list[str] = []
        for reading in readings:
            try:
                return adapter.validate_python(reading)
            except ValidationError as error:
                if reading is given:
                    reasons = [detail["msg"][0].lower() + detail["msg"][1:] for detail in error.errors()]
        raise SettingError(
            f"{self.kind} '{self.name}': setting '{setting.name}' can't be {given!r}: "
            f"{' or '.join(dict.fromkeys(reasons))}. Expected {setting.type}. {self._see}"
        )


def _adapter(setting: Setting) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, PydanticUserError, TypeAdapter

    # One adapter a setting and no model of all: names such as "copy" or "schema" are taken in models.
    try:
        return TypeAdapter(setting.annotation, config=ConfigDict(allow_inf_nan=False))
    except PydanticUserError as error:
        raise PluginError(
            f"setting '{setting.name}': type {setting.type} can't be checked; use types that JSON has, "
            "Literal, Path, and tuples or lists of these"
        ) from error
