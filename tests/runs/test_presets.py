"""Preset files, and what is typed on top of them."""

from pathlib import Path

import pytest

from ovvol_bench.errors import PluginError, SettingError, UnknownNameError
from ovvol_bench.registry import load_registry
from ovvol_bench.registry.settings import read_settings
from ovvol_bench.runs.selection import Choice, Selection, load_preset, preset_names, select
from ovvol_plugins.pacl import pacl_recipe

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def registry():
    return load_registry((HERE / "tiny_plugin.py",), only=["metrics"])


@pytest.fixture
def preset():
    return load_preset(str(HERE / "tiny.yaml"))


def write(folder, text):
    path = folder / "mine.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize("name", preset_names())
def test_presets_that_come_along_are_valid(name):
    assert load_preset(name).description


def test_unknown_preset_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown preset 'shape'. Did you mean 'shapes'\?"):
        load_preset("shape")


def test_missing_preset_file_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match=r"none\.yaml does not exist"):
        load_preset(str(tmp_path / "none.yaml"))


PARTS = "encoder: {name: a}\ngrouper: {name: b}\nlabeler: {name: c}\ndataset: {name: d}\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("encoder: {name: [", r"mine\.yaml: not valid YAML"),
        ("- a\n", r"mine\.yaml: the file: "),
        ("encoder: {name: a}\n", r"mine\.yaml: grouper: Field required"),
        (PARTS + "colour: red\n", r"mine\.yaml: colour: Extra inputs .*found 'red'"),
        (PARTS.replace("{name: b}", "{nmae: b}"), r"mine\.yaml: grouper\.name: Field required"),
        (PARTS + "seeds: [-1]\n", r"mine\.yaml: seeds\.0: .*found -1"),
        (PARTS + "seeds: []\n", r"mine\.yaml: seeds: "),
        (PARTS + "fidelity: slow\n", r"mine\.yaml: fidelity: .*found 'slow'"),
        (PARTS + "alternatives: {colour: {}}\n", r"mine\.yaml: alternatives\.colour"),
    ],
)
def test_wrong_preset_files_name_file_and_field(tmp_path, text, expected):
    with pytest.raises(SettingError, match=expected):
        load_preset(write(tmp_path, text))


def test_preset_alone(preset, registry):
    selection = select(preset, registry, {}, {})
    assert selection.encoders == (Choice("tiny"),)
    assert selection.groupers == (Choice("randomcut", {"num_slots": 5}),)
    assert [choice.name for choice in selection.metrics] == ["corloc", "corloc", "detrate", "vid_ap"]
    assert (selection.fidelity, selection.seeds) == ("reference", (0,))


def test_names_bring_the_presets_settings_or_an_alternatives_or_none(preset, registry):
    names = {"encoder": ["deep", "short", "tiny"], "grouper": ["needy", "randomcut"]}
    selection = select(preset, registry, names, {})
    assert selection.encoders == (Choice("deep", {"dim": 5}), Choice("short"), Choice("tiny"))
    assert selection.groupers == (Choice("needy"), Choice("randomcut", {"num_slots": 5}))


def test_a_plugin_may_bring_settings_for_a_preset(tmp_path):
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from ovvol_bench import Entry, hookimpl\n"
        "def build(*, size: int = 3): ...\n"
        "@hookimpl\ndef ovvol_groupers():\n"
        "    yield Entry('own', build, '', presets={'shapes': {'size': 8}})\n"
    )
    registry = load_registry([plugin])
    selection = select(load_preset("shapes", registry), registry, {"grouper": ["own", "grid"]}, {})
    assert selection.groupers == (Choice("own", {"size": 8}), Choice("grid", {"rows": 2, "columns": 4}))
    assert load_preset("paper", registry).options_for("grouper", "own") == {}
    plugin.write_text(plugin.read_text().replace("{'size'", "{'sizes'"))
    with pytest.raises(
        PluginError, match="grouper 'own': shapes names 'sizes', which is none of its settings"
    ):
        load_registry([plugin])


def test_settings_go_to_the_components_that_have_them(preset, registry):
    names = {"encoder": ["deep", "short"]}
    settings = {"encoder": {"dim": "7"}, "metric": {"box": "top1"}, "naming": {"merge": "none"}}
    selection = select(preset, registry, names, settings)
    assert selection.encoders == (Choice("deep", {"dim": "7"}), Choice("short"))
    assert [choice.options.get("box") for choice in selection.metrics] == ["top1", "top1", None, None]
    assert selection.naming == {"merge": "none"}


def test_a_setting_for_one_component_goes_to_that_one_whatever_is_set_for_all(preset, registry):
    names = {"encoder": ["deep", "tiny"], "grouper": ["randomcut"]}
    settings = {"encoder": {"deep.dim": "9", "dim": "7"}, "metric": {"vid_ap.iou_threshold": "0.3"}}
    selection = select(preset, registry, names, settings)
    assert selection.encoders[0] == Choice("deep", {"dim": "9"})
    assert [choice.options.get("iou_threshold") for choice in selection.metrics] == [None, None, None, "0.3"]


def test_a_setting_for_a_component_that_is_not_chosen_or_lacks_it_is_refused(preset, registry):
    with pytest.raises(SettingError, match=r"-o grouper:randomcat\.num_slots: .* Did you mean 'randomcut'"):
        select(preset, registry, {}, {"grouper": {"randomcat.num_slots": "8"}})
    with pytest.raises(SettingError, match=r"-o grouper:randomcut\.num_slot: .*Did you mean 'num_slots'\?"):
        select(preset, registry, {}, {"grouper": {"randomcut.num_slot": "8"}})


def test_a_setting_that_nothing_has_is_refused(preset, registry):
    with pytest.raises(SettingError, match=r"-o grouper\.num_slot: .*Did you mean 'num_slots'\?"):
        select(preset, registry, {}, {"grouper": {"num_slot": "8"}})


def test_unknown_component_is_refused(preset, registry):
    with pytest.raises(UnknownNameError, match="unknown grouper 'randomcat'"):
        select(preset, registry, {"grouper": ["randomcat"]}, {})


def test_a_name_twice_is_refused(preset, registry):
    with pytest.raises(SettingError, match="--encoder names tiny more than once"):
        select(preset, registry, {"encoder": ["tiny", "tiny"]}, {})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"fidelity": "reference", "precision": "bfloat16"}, "Drop one of the two"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"seeds": (1, 1)}, "--seeds names a seed twice"),
        ({"consensus": (3, 10)}, "merges several seeds"),
        ({"seeds": (0, 1), "consensus": (5, 3)}, "LOW..HIGH with 2 <= LOW <= HIGH, got 5..3"),
    ],
)
def test_contradictions_are_refused(fields, expected):
    one = (Choice("a"),)
    with pytest.raises(SettingError, match=expected):
        Selection(one, one, one, one, **fields)


def test_the_paper_trains_as_published():
    training = load_preset("paper").training
    assert {name: each.precision for name, each in training.items()} == {
        "videomae": None,
        "slot_attention": "float32",
        "pacl": "float32",
    }
    set_here = {name: each.recipe for name, each in training.items() if each.recipe}
    assert set_here == {"slot_attention": {"sizes": ["native"], "same_video_batch": True}}, (
        "the recipes' other defaults are the published numbers"
    )
    defaults = {setting.name: setting.default for setting in read_settings(pacl_recipe, given=1)}
    assert (defaults["smallest_crop"], defaults["interpolation"]) == (0.9, "bicubic")
