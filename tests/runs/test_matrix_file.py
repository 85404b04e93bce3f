"""Matrix files, over a preset."""

import re
from pathlib import Path

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.runs.selection import load_matrix, load_preset

PRESET = load_preset(str(Path(__file__).parent / "tiny.yaml"))


@pytest.fixture
def load(tmp_path):
    def call(text):
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return load_matrix(path)

    return call


def test_names_may_be_bare_alone_or_with_options(load):
    matrix = load("encoder: tiny\ngrouper: [randomcut, {name: told}]\nlabeler: {name: colours}")
    assert matrix.names() == {
        "encoder": ["tiny"],
        "grouper": ["randomcut", "told"],
        "labeler": ["colours"],
    }


def test_options_are_added_to_those_of_the_preset(load):
    text = "encoder: [{name: deep, options: {weights: w}}]\ngrouper: {name: randomcut, options: {slots: 9}}"
    preset = load(text).over(PRESET)
    assert preset.options_for("encoder", "deep") == {"dim": 5, "weights": "w"}
    assert preset.options_for("grouper", "randomcut") == {"num_slots": 5, "slots": 9}
    assert PRESET.options_for("grouper", "randomcut") == {"num_slots": 5}


def test_what_is_left_out_is_the_presets(load):
    assert load("{}").over(PRESET) == PRESET
    changed = load("{seeds: [4], fidelity: fast, naming: {merge: none}, metrics: [detrate]}").over(PRESET)
    assert (changed.seeds, changed.fidelity, changed.naming) == ((4,), "fast", {"merge": "none"})
    assert [part.name for part in changed.metrics] == ["detrate"]


def test_the_example_of_the_docs_is_one(load):
    docs = Path(__file__).parents[2] / "docs" / "results.md"
    example, *_ = re.findall(r"```yaml\n(.*?)```", docs.read_text(encoding="utf-8"), re.DOTALL)
    assert set(load(example).names()) == {"encoder", "grouper", "labeler", "dataset"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("grouper: [", r"mine\.yaml: not valid YAML"),
        ("", r"mine\.yaml: the file: "),
        ("groupers: [kmeans]", r"mine\.yaml: groupers: Extra inputs .*found \['kmeans'\]"),
        ("grouper: []", r"mine\.yaml: grouper: "),
        ("grouper: [kmeans, {nmae: grid}]", r"mine\.yaml: grouper\.1\.name: Field required"),
        ("grouper: [kmeans, 3]", r"mine\.yaml: grouper\.1: .*found 3"),
        (
            "grouper: {name: all, options: {num_slots: 3}}",
            r"mine\.yaml: grouper\.0: .*'all' takes no options",
        ),
        ("seeds: [-1]", r"mine\.yaml: seeds\.0: .*found -1"),
        ("seeds: [true]", r"mine\.yaml: seeds\.0: .*found True"),
        ("seeds: []", r"mine\.yaml: seeds: "),
        ("fidelity: slow", r"mine\.yaml: fidelity: .*found 'slow'"),
    ],
)
def test_wrong_files_name_file_and_field(load, text, expected):
    with pytest.raises(SettingError, match=expected):
        load(text)
