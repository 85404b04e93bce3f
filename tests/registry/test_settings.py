"""Settings: read from signatures, checked, coerced from text."""

import functools
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Optional

import annotated_types
import pytest

from ovvol_bench import Grouper
from ovvol_bench.errors import PluginError, SettingError
from ovvol_bench.registry.settings import SettingsOf, read_documentation, read_settings


def checker(factory) -> SettingsOf:
    return SettingsOf("grouper", "kmeans", read_settings(factory))


def value_of(annotation: Any, given: object) -> object:
    def factory(*, x): ...

    factory.__annotations__["x"] = annotation
    return checker(factory).values({"x": given})["x"]


@pytest.mark.parametrize(
    ("annotation", "given", "expected"),
    [
        (int, "8", 8),
        (int, 8, 8),
        (float, "0.5", 0.5),
        (float, 2, 2.0),
        (bool, "true", True),
        (bool, "False", False),
        (str, "none", "none"),
        (str, "1,2", "1,2"),
        (str | None, "none", None),
        (Optional[int], "null", None),  # noqa: UP045
        (int | None, "8", 8),
        (Path | None, "weights.pt", Path("weights.pt")),
        (Literal["val", "train"], "val", "val"),
        (int | Literal["all"], "3", 3),
        (int | Literal["all"], "all", "all"),
        (tuple[int, ...], "1,2, 3", (1, 2, 3)),
        (tuple[int, int], "(3, 4)", (3, 4)),
        (list[str], "one", ["one"]),
        (list[float] | None, "[1.5,2]", [1.5, 2.0]),
        (Annotated[int, annotated_types.Ge(1)], "1", 1),
        (Any, "text", "text"),
    ],
)
def test_text_is_read_as_the_type_says(annotation, given, expected):
    value = value_of(annotation, given)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("annotation", "given", "reason"),
    [
        (int, "many", "valid integer"),
        (int, "none", "valid integer"),
        (int, 2.5, "fractional part"),
        (bool, "perhaps", "valid boolean"),
        (float, "nan", "finite number"),
        (Literal["val", "train"], "test", "'val' or 'train'"),
        (tuple[int, int], "3", "valid tuple"),
        (Annotated[int, annotated_types.Ge(1)], "0", "greater than or equal to 1"),
        (str, 3, "valid string"),
    ],
)
def test_a_wrong_value_is_refused_with_reason_type_and_help(annotation, given, reason):
    with pytest.raises(SettingError) as caught:
        value_of(annotation, given)
    message = str(caught.value)
    assert message.startswith(f"grouper 'kmeans': setting 'x' can't be {given!r}: ")
    assert reason in message
    assert message.endswith("See: ovvol-bench show grouper kmeans")


def test_an_unknown_setting_gets_the_nearest_and_the_list():
    def factory(*, num_slots: int = 3, seed: int = 0): ...

    with pytest.raises(SettingError) as caught:
        checker(factory).values({"num_slot": 3})
    assert str(caught.value) == (
        "grouper 'kmeans' has no setting 'num_slot'. Did you mean 'num_slots'? "
        "Settings: num_slots, seed. See: ovvol-bench show grouper kmeans"
    )


def test_a_missing_setting_is_asked_for():
    def factory(*, path: str): ...

    with pytest.raises(
        SettingError, match=r"needs the setting 'path' \(str\). Set it with -o grouper.path=VALUE"
    ):
        checker(factory).values({})


def test_a_component_without_settings_says_so():
    with pytest.raises(SettingError, match="Settings: none"):
        checker(lambda: None).values({"x": 1})


def test_names_that_models_reserve_are_ordinary_settings():
    def factory(*, copy: int = 1, schema: str = "a", model_name: str = "b", json: bool = False): ...

    assert checker(factory).values({"copy": "2"}) == {
        "copy": 2,
        "schema": "a",
        "model_name": "b",
        "json": False,
    }


def test_json_values_survive_json():
    def factory(*, path: Path = Path("a"), sizes: tuple[int, ...] = (1, 2), weights: str | None = None): ...

    values = checker(factory).json_values({})
    assert json.loads(json.dumps(values)) == values == {"path": "a", "sizes": [1, 2], "weights": None}
    assert checker(factory).values(values)["sizes"] == (1, 2)


def test_a_default_that_its_own_type_refuses_is_an_error():
    def factory(*, num_slots: int = None): ...  # noqa: RUF013

    with pytest.raises(SettingError, match="can't be None"):
        checker(factory).values({})


def test_the_return_type_need_not_exist():
    def factory(*, x: "int" = 3) -> "NotImportedAnywhere": ...  # noqa: F821

    assert read_settings(factory)[0].annotation is int


def test_a_parameter_type_must_exist():
    def factory(*, x: "NotImportedAnywhere" = 3): ...  # noqa: F821

    with pytest.raises(PluginError, match="can't be resolved"):
        read_settings(factory)


def test_a_type_that_cannot_be_checked_is_named():
    class Model: ...

    def factory(*, x: Model): ...

    with pytest.raises(PluginError, match=r"setting 'x': type .*Model can't be checked"):
        checker(factory).values({"x": 1})


def test_a_parameter_without_type_is_refused():
    def factory(*, x=3): ...

    with pytest.raises(PluginError, match="'x' has no type"):
        read_settings(factory)


def test_a_class_without_init_has_no_settings():
    class Plain(Grouper):
        def group(self, features, draws): ...

    assert read_settings(Plain) == []
    assert read_settings(type("Bare", (), {})) == []


def test_classes_and_partials_are_factories_too():
    class Built:
        def __init__(self, *, size: "int" = 3): ...

    def build(*, size: "int" = 3, mode: str = "a"): ...

    assert [s.name for s in read_settings(Built)] == ["size"]
    assert [s.default for s in read_settings(functools.partial(build, size=5))] == [5, "a"]


class Base:
    """Learn.

    Override `losses`.

    Args:
        task: what to train.
        epochs: passes.
        rate: of learning,
            at its highest.

    Attributes:
        module: what is trained.
    """

    def __init__(
        self, task, *, epochs: float = 3, rate: "Annotated[float, annotated_types.Gt(0)]" = 0.1
    ) -> None:
        self.given = {"epochs": epochs, "rate": rate}


class Own(Base):
    """Learn by contrast.

    Args:
        task: with a grouper.
        heat: of the contrast.
        epochs: passes; few are enough.
    """

    def __init__(self, task, *, heat: float = 1.0, epochs: float = 2, **base: Any) -> None:
        super().__init__(task, epochs=epochs, **base)
        self.heat = heat


class Loose:
    def __init__(self, **others: Any) -> None: ...


class TestSettingsOfBases:
    @pytest.mark.parametrize("factory", [Own, functools.partial(Own, rate=0.5)])
    def test_a_class_has_those_that_it_hands_on(self, factory):
        found = {each.name: (each.default, each.annotation) for each in read_settings(factory, given=1)}
        assert list(found) == ["heat", "epochs", "rate"]
        assert found["epochs"] == (2, float)
        assert found["rate"][1] == Annotated[float, annotated_types.Gt(0)]
        assert found["rate"][0] == (0.1 if factory is Own else 0.5)
        settings = SettingsOf("recipe", "own", read_settings(factory, given=1))
        values = settings.values({"epochs": "9"})
        assert Own("task", **values).given == {"epochs": 9.0, "rate": found["rate"][0]}
        with pytest.raises(SettingError, match="rate"):
            settings.values({"rate": -1})

    def test_bases_document_what_the_class_leaves_out(self):
        text = read_documentation(Own)
        assert text.startswith("Learn by contrast.")
        assert text.endswith(
            "few are enough.\n\nArgs of Base:\n    rate: of learning,\n        at its highest."
        )

    def test_what_no_base_takes_is_refused(self):
        with pytest.raises(PluginError, match="others"):
            read_settings(Loose)
