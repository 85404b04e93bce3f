"""``ovvol-bench show``."""

import json
import re

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

PLUGIN = '''
from typing import Literal
from ovvol_bench import Entry, hookimpl

def build(*, path: str, num_slots: int = 15, weights: str | None = None, soft: bool = True,
          sizes: tuple[int, ...] = (1, 2), init: Literal["random", "grid"] = "random"):
    """Group by k-means.

    Args:
        num_slots: how many.
    """

@hookimpl
def ovvol_groupers():
    yield Entry("clusters", build, "k-means over features")
    yield Entry("plain", lambda: 0, "no settings")
'''


@pytest.fixture
def show(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN)

    def run(*arguments: str):
        return CliRunner().invoke(main, ["show", *arguments, "--plugin", str(path)])

    return run


def test_text_has_summary_origin_documentation_and_settings(show, tmp_path):
    lines = show("grouper", "clusters").stdout.splitlines()
    assert lines[:2] == ["grouper clusters: k-means over features", f"From file {tmp_path / 'mine.py'}"]
    assert "    num_slots: how many." in lines
    table = [line.split(maxsplit=1) for line in lines[lines.index("    num_slots: how many.") + 2 :]]
    assert table[0] == ["setting", "type                       default"]
    rows = {name: rest.rsplit(maxsplit=1) for name, rest in table[2:]}
    assert rows == {
        "path": ["str", "(required)"],
        "num_slots": ["int", "15"],
        "weights": ["str | None", "none"],
        "soft": ["bool", "true"],
        "sizes": ["tuple[int, ...]", "1,2"],
        "init": ["Literal['random', 'grid']", "random"],
    }


def test_defaults_are_shown_as_one_may_type_them(show, tmp_path):
    settings = json.loads(show("grouper", "clusters", "--format", "json").stdout)["settings"]
    from ovvol_bench.registry import load_registry

    registry = load_registry([tmp_path / "mine.py"], only=[])
    typed = {item["setting"]: item["default"] for item in settings if not item["required"]}
    path = {"path": "x"}
    assert registry.resolve("grouper", "clusters", typed | path) == registry.resolve(
        "grouper", "clusters", path
    )


def test_a_component_without_settings_says_so(show):
    assert show("grouper", "plain").stdout.endswith("It has no settings.\n")


def test_an_unknown_name_is_one_message(show):
    result = show("grouper", "cluster")
    assert result.exit_code == 2
    assert "unknown grouper 'cluster'. Did you mean 'clusters'?" in result.stderr


def test_a_preset_s_values_stand_beside_the_defaults():
    lines = CliRunner().invoke(main, ["show", "grouper", "kmeans"]).stdout.splitlines()
    (slots,) = [re.split(r"\s{2,}", line) for line in lines if line.startswith("num_slots ")]
    assert slots == ["num_slots", "1 <= int <= 4096", "15", "8"]
    assert any("preset shapes" in line for line in lines)


def test_a_preset_is_shown_whole():
    shown = CliRunner().invoke(main, ["show", "preset", "tiny", "--format", "json"])
    assert json.loads(shown.stdout)["dataset"]["options"] == {"split": "val", "videos": 4}
    unknown = CliRunner().invoke(main, ["show", "preset", "tny"])
    assert unknown.exit_code == 2
    assert "Did you mean 'tiny'?" in unknown.stderr
