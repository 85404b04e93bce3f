"""Components by name: settings are read from source as `inspect` would read them, nothing is imported."""

import json
import subprocess
import sys
from typing import Annotated, Literal

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main
from ovvol_bench.errors import PluginError, SettingError
from ovvol_bench.registry import FromEncoder, Lazy, Weights, load_registry
from ovvol_bench.registry.annotations import Slots
from ovvol_bench.registry.settings import read_documentation, read_settings

MODEL = '''
from __future__ import annotations
import pathlib
import typing as t
from typing import Annotated, Literal, TYPE_CHECKING
from ovvol_bench import FromEncoder, Grouper, Weights
from ovvol_bench.registry.annotations import Slots
from .names import Mode as How, FEW
import own_heavy

if TYPE_CHECKING:
    from nowhere import Nothing

Span = Literal["clip", "frame"]
ROUNDS = 20

class Clusters(Grouper):
    """Cluster patches.

    Args:
        num_slots: clusters.
    """

    def __init__(
        self,
        *,
        num_slots: Slots = FEW,
        rounds: "int | None" = ROUNDS,
        span: Span = "clip",
        mode: How | None = None,
        path: pathlib.Path | None = None,
        weights: Annotated[str | None, Weights] = None,
        dim: Annotated[t.Optional[int], FromEncoder("dim")] = -1,
        sizes: tuple[int, ...] = (1, 2),
    ) -> None:
        super().__init__()
        self.num_slots = num_slots

    def group(self, features, draws):
        raise NotImplementedError

class Same(Clusters):
    """Clusters by another name."""

class More(Same):
    """Clusters, and more.

    Args:
        depth: of the tree.
    """

    def __init__(self, *, depth: Slots = 3, num_slots: Slots = 4, **others: t.Any) -> None:
        super().__init__(num_slots=num_slots, **others)

class Bare(Grouper):
    def group(self, features, draws): ...

def recipe(task: Nothing = dict(), *, steps: int = 3):
    """Train it."""
    return task, steps

def marked(function):
    return function

@marked
def decorated(*, size: int = 2 ** 4): ...

def computed(*, size: int = 2 ** 4): ...

def positional(size: int = 3): ...

def starred(*sizes: int): ...

def mistyped(*, size: Missing = 3): ...

NUMBER = 3
'''
PLUGIN = """
from ovvol_bench import Entry, Lazy, hookimpl

@hookimpl
def ovvol_groupers():
    recipes = {"usual": "own_lazy.model:recipe"}
    yield Entry("clusters", "own_lazy.model:Clusters", "", recipes=recipes, reference="A, 2024")
    yield Entry("few", Lazy("own_lazy.model:Same", num_slots=2), "")
    yield Entry("positional", "own_lazy.model:positional", "")
    yield Entry("gone", "own_lazy.model:Cluster", "")
    yield Entry("nowhere", "own_lazy.gone:Cluster", "")
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A plugin file beside a package whose module imports something that fails to load."""
    folder = tmp_path / "own_lazy"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "model.py").write_text(MODEL)
    (folder / "names.py").write_text(
        "from typing import Literal\nMode = Literal['a', 'b']\nFEW: int = 5\n1 / 0\n"
    )
    (tmp_path / "mine.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith(("own_lazy", "own_heavy"))]:
        del sys.modules[name]


@pytest.fixture
def loadable(package):
    """The same, and all of it loads."""
    (package / "own_lazy" / "names.py").write_text(
        "from typing import Literal\nMode = Literal['a', 'b']\nFEW = 5\n"
    )
    (package / "own_heavy.py").write_text("print('noise')\n")
    return package


@pytest.fixture
def registry(package):
    return load_registry([package / "mine.py"], only=[])


def test_settings_are_those_of_the_real_signature_and_nothing_is_imported(package):
    settings = read_settings(Lazy("own_lazy.model:Clusters"))
    assert {each.name: (each.annotation, each.default) for each in settings} == {
        "num_slots": (Slots, 5),
        "rounds": (int | None, 20),
        "span": (Literal["clip", "frame"], "clip"),
        "mode": (Literal["a", "b"] | None, None),
        "path": (__import__("pathlib").Path | None, None),
        "weights": (Annotated[str | None, Weights], None),
        "dim": (Annotated[int | None, FromEncoder("dim")], -1),
        "sizes": (tuple[int, ...], (1, 2)),
    }
    assert "own_lazy.model" not in sys.modules


def test_source_and_import_tell_the_same(loadable):
    from_source = read_settings(Lazy("own_lazy.model:Clusters"))
    assert from_source == read_settings(Lazy("own_lazy.model:Clusters").load())


def test_settings_that_a_class_hands_on_are_those_of_its_base(loadable):
    more = Lazy("own_lazy.model:More")
    from_source, documentation = read_settings(more), read_documentation(more)
    assert [(each.name, each.default) for each in from_source][:4] == [
        ("depth", 3), ("num_slots", 4), ("rounds", 20), ("span", "clip"),
    ]  # fmt: skip
    assert documentation.endswith("depth: of the tree.\n\nArgs of Clusters:\n    num_slots: clusters.")
    assert "own_lazy.model" not in sys.modules
    assert from_source == read_settings(more.load())
    assert documentation == read_documentation(more.load())


@pytest.mark.usefixtures("package")
def test_a_class_takes_settings_and_their_documentation_from_its_base():
    same, bare = Lazy("own_lazy.model:Same"), Lazy("own_lazy.model:Bare")
    assert read_settings(same) == read_settings(Lazy("own_lazy.model:Clusters"))
    assert (
        read_documentation(same) == "Clusters by another name.\n\nArgs of Clusters:\n    num_slots: clusters."
    )
    assert (read_settings(bare), read_documentation(bare)) == ([], "")


@pytest.mark.usefixtures("package")
def test_other_defaults_replace_those_of_the_signature():
    settings = read_settings(Lazy("own_lazy.model:Same", num_slots=2, span="frame"))
    assert [each.default for each in settings][:3] == [2, 20, "frame"]


@pytest.mark.usefixtures("loadable")
@pytest.mark.parametrize("name", ["decorated", "computed"])
def test_what_source_cannot_tell_is_imported(name, capsys):
    assert [each.default for each in read_settings(Lazy(f"own_lazy.model:{name}"))] == [16]
    assert tuple(capsys.readouterr()) == ("", "noise\n")


@pytest.mark.usefixtures("loadable")
@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("own_lazy.model:positional", "parameter 'size: .* is not keyword-only"),
        ("own_lazy.model:starred", r"parameter '\*sizes: .* is not keyword-only"),
        ("own_lazy.model:mistyped", "can't be resolved"),
        ("own_lazy.model:Cluster", r"has no class or function 'Cluster'\. Did you mean 'Clusters'\?"),
        ("own_lazy.model:NUMBER", "has no class or function 'NUMBER'"),
        ("own_lazy.gone:Clusters", "import of own_lazy.gone failed: ModuleNotFoundError"),
    ],
)
def test_what_is_no_factory_is_refused(target, reason):
    with pytest.raises(PluginError, match=reason):
        read_settings(Lazy(target))


def test_components_are_listed_set_built_and_trained_by_name(loadable):
    registry = load_registry([loadable / "mine.py"], only=[])
    assert registry.resolve("grouper", "few", {"span": "frame"})["num_slots"] == 2
    assert registry.build("grouper", "few", {}).num_slots == 2
    assert registry.build("grouper", "clusters", {"num_slots": "7"}).num_slots == 7
    assert registry.recipe("grouper", "clusters").build("task", {"steps": "4"}) == ("task", 4)


def test_bad_values_and_bad_names_are_one_message_and_stop_only_what_asks_for_them(registry):
    with pytest.raises(SettingError, match="setting 'num_slots' can't be '5000'"):
        registry.resolve("grouper", "clusters", {"num_slots": "5000"})
    with pytest.raises(PluginError, match=r"grouper 'positional': factory parameter .* is not keyword-only"):
        registry.settings("grouper", "positional")
    with pytest.raises(PluginError, match=r"grouper 'nowhere': import of own_lazy.gone failed"):
        registry.settings("grouper", "nowhere")


def test_plugins_lists_names_that_lead_nowhere(package):
    done = CliRunner().invoke(main, ["plugins", "--plugin", str(package / "mine.py"), "--format", "json"])
    reasons = [each["reason"] for each in json.loads(done.stdout)["broken"]]
    assert [reason.partition(": ")[2].partition(": ")[0] for reason in reasons] == [
        "grouper 'positional'",
        "grouper 'gone'",
        "grouper 'nowhere'",
    ]


@pytest.mark.parametrize("target", ["kmeans", "a:b:c", "a b:C", "../x:C", ":C"])
def test_text_that_names_no_class_breaks_the_plugin(tmp_path, target):
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN.replace("own_lazy.model:positional", target))
    with pytest.raises(PluginError, match=f"grouper 'positional' names '{target}'; expected 'package"):
        load_registry([plugin], only=[])


def test_show_prints_reference_and_documentation_of_an_unloaded_module(package):
    arguments = ["show", "grouper", "clusters", "--plugin", str(package / "mine.py")]
    text = CliRunner().invoke(main, arguments).stdout
    assert "\n\nA, 2024\n\nCluster patches.\n" in text
    assert "Train it." in text
    shown = json.loads(CliRunner().invoke(main, [*arguments, "--format", "json"]).stdout)
    assert shown["reference"] == "A, 2024"
    assert shown["recipes"]["usual"]["settings"][0]["setting"] == "steps"


@pytest.mark.usefixtures("package")
def test_neither_a_module_that_stands_alone_nor_a_package_above_is_imported(tmp_path, monkeypatch):
    (tmp_path / "above").mkdir()
    (tmp_path / "above" / "__init__.py").write_text("raise RuntimeError('imported')")
    for place in ("above/inner.py", "alone_lazy.py"):
        (tmp_path / place).write_text("raise RuntimeError('imported')\ndef build(*, size: int = 3): ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    for target in ("above.inner:build", "alone_lazy:build"):
        assert [each.default for each in read_settings(Lazy(target))] == [3]


EVERY_SETTING = """
import sys
from ovvol_bench.registry import KINDS, load_registry
registry = load_registry()
before = set(sys.modules)
for kind in KINDS:
    for name in registry.names(kind):
        registry.settings(kind, name)
        for recipe in registry.find(kind, name).recipes:
            registry.recipe(kind, name, recipe)
print(*sorted({name.partition(".")[0] for name in set(sys.modules) - before}))
"""


def test_no_library_is_loaded_for_the_settings_of_any_built_in_component():
    done = subprocess.run([sys.executable, "-c", EVERY_SETTING], capture_output=True, text=True, check=True)
    limits = {"annotated_types", "typing_extensions"}  # quick ones, which ranges are written with
    assert set(done.stdout.split()) <= {*sys.stdlib_module_names, "ovvol_bench", *limits}
