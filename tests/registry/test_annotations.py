"""Roles: what a setting is to a run is said by its annotation, never by its name."""

from pathlib import Path
from typing import Annotated, Literal, Optional

import pytest

from ovvol_bench import Entry, FromDataset, FromEncoder, Located, Pretrained, Weights
from ovvol_bench.errors import PluginError
from ovvol_bench.registry import Found
from ovvol_bench.registry.annotations import role_of
from ovvol_bench.registry.settings import SettingsOf, read_settings


@pytest.mark.parametrize(
    ("annotation", "role", "shown"),
    [
        (Annotated[Path, Located], Located(), "Path"),
        (Annotated[Path, Located()], Located(), "Path"),
        (Annotated[str | None, Weights], Weights(), "str | None"),
        (Annotated[str, Pretrained] | None, Pretrained(), "str | None"),
        (Optional[Annotated[int, FromEncoder("dim")]], FromEncoder("dim"), "int | None"),  # noqa: UP045
        (Literal["list"], None, "Literal['list']"),
    ],
)
def test_a_role_is_read_wherever_it_stands_and_left_out_of_the_type(annotation, role, shown):
    def factory(*, x): ...

    factory.__annotations__["x"] = annotation
    (setting,) = read_settings(factory)
    assert setting.role == role
    assert setting.type.replace("pathlib.", "") == shown


def test_values_are_checked_as_without_the_role():
    def factory(*, size: Annotated[int, FromEncoder("dim")] = 4): ...

    assert SettingsOf("grouper", "own", read_settings(factory)).values({"size": "8"}) == {"size": 8}


def test_what_nothing_can_follow_from_is_refused():
    with pytest.raises(PluginError, match=r"FromEncoder\('width'\): expected one of 'dim', 'steps'"):
        FromEncoder("width")
    with pytest.raises(PluginError, match=r"says what follows, as in FromEncoder\('dim'\)"):
        role_of(Annotated[int, FromEncoder])
    with pytest.raises(PluginError, match="contradict each other"):
        role_of(Annotated[int, FromEncoder("dim"), FromDataset("num_classes")])


def test_a_role_that_no_such_component_can_have_is_refused():
    def factory(*, width: Annotated[int, FromEncoder("dim")] = 4): ...

    with pytest.raises(PluginError, match=r"labeler 'own': setting 'width' follows from the encoder \(dim\)"):
        Found("labeler", Entry("own", factory, ""), "", "").settings()
