"""Entries may come with recipes; what they declare is checked like a factory's settings."""

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.errors import PluginError, SettingError, UnknownNameError
from ovvol_bench.registry import load_registry

PLUGIN = '''
from ovvol_bench import Entry, hookimpl

def first(task, *, steps: int = 3, sizes: tuple[int, ...] = (4,)):
    """How it is usually done."""
    return ("first", task, steps, sizes)

def second(task):
    return "second"

def build():
    return None

@hookimpl
def ovvol_{kind}s():
    yield Entry("thing", build, "a thing", {recipes})
'''


@pytest.fixture
def plugin(tmp_path):
    """Writes a plugin file whose component has these recipes."""

    def write(recipes='{"first": first, "second": second}', kind="grouper"):
        path = tmp_path / "thing.py"
        path.write_text(PLUGIN.replace("{kind}", kind).replace("{recipes}", recipes))
        return path

    return write


def test_the_first_recipe_is_the_usual_one(plugin):
    registry = load_registry([plugin()])
    assert registry.recipe("grouper", "thing").name == "first"
    assert registry.recipe("grouper", "thing", "second").build("task", {}) == "second"


def test_settings_are_read_checked_and_passed(plugin):
    recipe = load_registry([plugin()]).recipe("grouper", "thing")
    assert recipe.build("task", {"steps": "5", "sizes": "1,2"}) == ("first", "task", 5, (1, 2))
    assert recipe.json_values({}) == {"steps": 3, "sizes": [4]}
    with pytest.raises(SettingError, match=r"Did you mean 'steps'.*See: ovvol-bench show grouper thing"):
        recipe.build("task", {"step": 1})


def test_unknown_recipes_and_components_without_any(plugin):
    registry = load_registry([plugin()])
    with pytest.raises(UnknownNameError, match=r"no recipe 'frist'\. Did you mean 'first'"):
        registry.recipe("grouper", "thing", "frist")
    with pytest.raises(UnknownNameError, match=r"can be trained: .*slot_attention"):
        registry.recipe("grouper", "grid")


@pytest.mark.parametrize(
    ("recipes", "kind", "reason"),
    [
        (
            '{"bad": lambda task, steps: 0}',
            "grouper",
            "recipe 'bad': factory parameter 'steps' is not keyword-only",
        ),
        (
            '{"bad": lambda task, *, steps: 0}',
            "grouper",
            "recipe 'bad': factory parameter 'steps' has no type",
        ),
        ('{"b d": first}', "grouper", "recipe 'b d': expected a name and a function"),
        ('{"first": first}', "dataset", "dataset 'thing' has recipes; only encoder"),
    ],
)
def test_recipes_that_are_refused(plugin, recipes, kind, reason):
    with pytest.raises(PluginError, match=reason):
        load_registry([plugin(recipes, kind)])


def test_show_prints_every_recipe_with_its_settings(plugin):
    result = CliRunner().invoke(main, ["show", "grouper", "thing", "--plugin", str(plugin())])
    assert result.exit_code == 0
    assert "Recipe first: ovvol-bench train grouper thing --recipe first" in result.output
    assert "How it is usually done." in result.output and "sizes" in result.output
    assert "Recipe second" in result.output
