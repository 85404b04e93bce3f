"""Loading plugins, strictly, and looking things up."""

from pathlib import Path

import pytest

from ovvol_bench.errors import DataError, PluginError, SettingError, UnknownNameError, WeightsError
from ovvol_bench.registry import Broken, Registry, host, load_registry
from ovvol_bench.registry.discovery import Source, from_file

HEAD = "from ovvol_bench.registry import Entry, hookimpl\n"
GOOD = (
    HEAD
    + """
def build(*, num_slots: int = 15, scale: float = 1.0):
    '''A grouper for tests.'''
    return ("built", num_slots, scale)

@hookimpl
def ovvol_groupers():
    yield Entry("kmeans", build, "k-means")
    yield Entry("grid", build, "squares")
"""
)


def plugin_file(folder: Path, text: str, name: str = "mine.py") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def loaded(folder: Path, text: str) -> Registry:
    return load_registry([plugin_file(folder, text)], only=[])


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(PluginError) as caught:
        loaded(folder, text)
    return str(caught.value)


@pytest.fixture
def with_installed(monkeypatch, tmp_path):
    """A registry of files that stand for installed packages."""

    def load(*texts: str, files: tuple[Path, ...] = ()) -> Registry:
        paths = [plugin_file(tmp_path, text, f"package{i}.py") for i, text in enumerate(texts)]
        sources = [
            Source(f"package{i} 1.0", "1.0", from_file(path).load, str) for i, path in enumerate(paths)
        ]
        monkeypatch.setattr(host, "installed", lambda only: sources)
        return load_registry(files)

    return load


def test_entries_are_found_by_kind_and_name_with_their_origin(tmp_path):
    registry = loaded(tmp_path, GOOD)
    found = registry.find("grouper", "kmeans")
    assert registry.names("grouper") == ["grid", "kmeans"]
    assert registry.names("encoder") == []
    assert found.kind == "grouper"
    assert found.entry.summary == "k-means"
    assert found.origin == f"file {tmp_path / 'mine.py'}"


def test_the_version_of_a_file_is_its_content(tmp_path):
    first = loaded(tmp_path, GOOD).find("grouper", "grid").version
    same = loaded(tmp_path, GOOD).find("grouper", "grid").version
    edited = loaded(tmp_path, GOOD + "# edited\n").find("grouper", "grid").version
    assert first.startswith("sha256:")
    assert first == same != edited


def test_build_fills_in_defaults_and_coerces_text(tmp_path):
    registry = loaded(tmp_path, GOOD)
    assert registry.build("grouper", "kmeans", {"num_slots": "8"}) == ("built", 8, 1.0)
    assert registry.resolve("grouper", "kmeans", {"scale": "2"}) == {"num_slots": 15, "scale": 2.0}


def test_resolved_settings_build_the_same_component(tmp_path):
    registry = loaded(tmp_path, GOOD)
    resolved = registry.resolve("grouper", "kmeans", {"num_slots": "3"})
    assert registry.build("grouper", "kmeans", resolved) == ("built", 3, 1.0)
    assert registry.resolve("grouper", "kmeans", resolved) == resolved


def test_settings_are_read_from_the_signature(tmp_path):
    settings = loaded(tmp_path, GOOD).settings("grouper", "kmeans")
    assert [(s.name, s.type, s.default, s.required) for s in settings] == [
        ("num_slots", "int", 15, False),
        ("scale", "float", 1.0, False),
    ]


def test_an_unknown_name_gets_the_nearest_and_the_list(tmp_path):
    with pytest.raises(UnknownNameError) as caught:
        loaded(tmp_path, GOOD).find("grouper", "kmean")
    message = str(caught.value)
    assert "unknown grouper 'kmean'. Did you mean 'kmeans'?" in message
    assert "Installed groupers: grid, kmeans. See: ovvol-bench plugins" in message
    assert "OVVOL_PLUGINS allows only: none." in message


def test_an_unknown_kind_is_named(tmp_path):
    with pytest.raises(UnknownNameError, match=r"unknown kind 'groper'\. Did you mean 'grouper'"):
        loaded(tmp_path, GOOD).find("groper", "kmeans")


def test_a_bad_setting_is_refused(tmp_path):
    with pytest.raises(SettingError, match="has no setting 'slots'"):
        loaded(tmp_path, GOOD).build("grouper", "kmeans", {"slots": "3"})


LISTS = "@hookimpl\ndef ovvol_groupers():\n    "


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "@hookimpl\ndef ovvol_gruopers(): ...",
            "'ovvol_gruopers' is no hook. Did you mean 'ovvol_groupers'?",
        ),
        ("def ovvol_gruopers(): ...", "'ovvol_gruopers' is no hook. Did you mean 'ovvol_groupers'?"),
        ("@hookimpl(specname='ovvol_x')\ndef f(): ...", "'ovvol_x' is no hook."),
        ("@hookimpl\ndef groupers(): ...", "'groupers' is no hook."),
        ("def ovvol_groupers(): ...", "'ovvol_groupers' is not marked as a hook: put @hookimpl above it."),
        ("x = 1", "it implements no hook."),
        ("@hookimpl\ndef ovvol_groupers(size): ...", "hook 'ovvol_groupers'"),
        (LISTS + "pass", "ovvol_groupers returned None; it must yield its groupers."),
        (LISTS + "yield 'kmeans'", "ovvol_groupers yielded 'kmeans'; expected Entry("),
        (LISTS + "yield Entry('a,b', print, '')", "yielded the name 'a,b'; expected letters"),
        (LISTS + "yield Entry('a', 7, '')", "grouper 'a': the factory is 7; expected a function"),
        (LISTS + "yield Entry('a', None", "was never closed"),
        ("@hookimpl\ndef ovvol_commands():\n    yield 3", "yielded 3; expected a click command"),
        ("import not_there", "ModuleNotFoundError: No module named 'not_there' ("),
        ("raise SystemExit(3)", "SystemExit: it tried to end the process with 3"),
        ("raise GeneratorExit", "GeneratorExit (/"),
        ("class Own(BaseException): ...\nraise Own('x')", "Own: x (/"),
        ("class Own(Exception):\n    def __str__(self): 1 / 0\nraise Own", "Own: its text can't be had (/"),
        ("raise RuntimeError('one\\ntwo')", "RuntimeError: one two (/"),
    ],
)
def test_a_broken_file_is_refused_with_the_reason(tmp_path, text, expected):
    message = refusal(tmp_path, HEAD + text + "\n")
    assert message.startswith(f"plugin file {tmp_path / 'mine.py'} is broken: ")
    assert expected in message


def test_a_plugin_that_hangs_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(host, "SECONDS", 0.1)
    message = refusal(tmp_path, HEAD + "import time\ntime.sleep(60)\n")
    assert message.endswith("it takes longer than 0.1 s to import. Import what is heavy inside the factory.")


def test_what_a_plugin_prints_while_it_loads_goes_to_the_errors(tmp_path, capsys):
    loaded(tmp_path, GOOD + "print('noise')\n")
    assert tuple(capsys.readouterr()) == ("", "noise\n")


def test_a_package_that_raises_what_an_interrupt_raises_is_broken(with_installed):
    ((_, error),) = with_installed("raise KeyboardInterrupt\n").broken
    assert "KeyboardInterrupt (/" in str(error)


def test_an_interrupt_by_the_user_ends_the_search_for_plugins(with_installed):
    with pytest.raises(KeyboardInterrupt):
        with_installed(
            "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nfor _ in range(10**6): pass\n"
        )


def test_a_factory_that_fails_or_ends_the_process_is_named(tmp_path):
    text = HEAD + "def build():\n    raise SystemExit(0)\n" + LISTS + "yield Entry('bad', build, '')\n"
    with pytest.raises(PluginError, match=r"grouper 'bad' of file .*mine\.py failed: SystemExit: .*line 3\)"):
        loaded(tmp_path, text).build("grouper", "bad", {})


def test_a_hook_that_fails_in_a_run_is_named(tmp_path):
    registry = loaded(tmp_path, HEAD + "@hookimpl\ndef ovvol_run_started(spec):\n    spec['nothing']\n")
    with pytest.raises(PluginError, match=r"hook ovvol_run_started failed: KeyError: 'nothing' \(.*line 4\)"):
        registry.tell("ovvol_run_started", spec={})


def test_a_hook_that_fails_while_it_lists_is_reported_with_its_place(tmp_path):
    message = refusal(
        tmp_path, HEAD + "@hookimpl\ndef ovvol_groupers():\n    yield Entry('a', lambda: 0, '')\n    1 / 0\n"
    )
    assert f"ZeroDivisionError: division by zero ({tmp_path / 'mine.py'}, line 5)" in message


@pytest.mark.parametrize("parameters", ["num_slots: int = 3", "*sizes: int", "**rest: int"])
def test_factory_parameters_must_be_keyword_only(tmp_path, parameters):
    text = (
        HEAD
        + f"def build({parameters}): ...\n@hookimpl\ndef ovvol_groupers():\n    yield Entry('a', build, '')\n"
    )
    message = refusal(tmp_path, text)
    assert "grouper 'a': factory parameter" in message
    assert "is not keyword-only" in message


def test_one_plugin_may_not_list_a_name_twice(tmp_path):
    entry = "    yield Entry('a', lambda: 0, '')\n"
    assert "registers grouper 'a' twice" in refusal(
        tmp_path, HEAD + "@hookimpl\ndef ovvol_groupers():\n" + 2 * entry
    )


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PluginError, match=r"plugin file .*gone\.py can't be read: No such file"):
        load_registry([tmp_path / "gone.py"], only=[])


def test_a_file_named_twice_counts_once(tmp_path):
    path = plugin_file(tmp_path, GOOD)
    registry = load_registry([path, path.parent / "." / path.name], only=[])
    assert registry.names("grouper") == ["grid", "kmeans"]


def test_a_broken_package_stops_only_what_needs_it(with_installed):
    registry = with_installed(GOOD, HEAD + "@hookimpl\ndef ovvol_gruopers(): ...\n")
    assert registry.names("grouper") == ["grid", "kmeans"]
    assert registry.find("grouper", "kmeans").origin == "package0 1.0"
    assert [broken.origin for broken in registry.broken] == ["package1 1.0"]
    assert isinstance(registry.broken[0], Broken)
    with pytest.raises(UnknownNameError) as caught:
        registry.find("grouper", "spectral")
    assert "plugin package1 1.0 is broken: 'ovvol_gruopers' is no hook" in str(caught.value)


def test_nothing_of_a_broken_package_counts(with_installed):
    registry = with_installed(GOOD + "@hookimpl\ndef ovvol_encoders():\n    yield 1\n")
    assert registry.names("grouper") == []
    assert registry.hook.ovvol_groupers.get_hookimpls() == []


def test_a_name_taken_twice_is_an_error_once_it_is_asked_for(with_installed, tmp_path):
    other = GOOD.replace('"grid"', '"spectral"')
    registry = with_installed(GOOD, files=(plugin_file(tmp_path, other),))
    origin = f"file {tmp_path / 'mine.py'}"
    assert registry.names("grouper") == ["grid", "spectral"]
    assert [str(conflict) for conflict in registry.conflicts] == [
        f"grouper 'kmeans' is registered by package0 1.0 and by {origin}"
    ]
    with pytest.raises(PluginError) as caught:
        registry.find("grouper", "kmeans")
    assert f"by package0 1.0 and by {origin}. Uninstall one" in str(caught.value)


def test_one_name_may_be_taken_in_two_kinds(tmp_path):
    registry = loaded(
        tmp_path, GOOD + "\n@hookimpl\ndef ovvol_encoders():\n    yield Entry('grid', build, '')\n"
    )
    assert registry.find("encoder", "grid") != registry.find("grouper", "grid")
    assert registry.conflicts == []


def test_event_hooks_reach_every_plugin(tmp_path):
    text = (
        HEAD + "seen = []\n@hookimpl\ndef ovvol_run_started(spec):\n    seen.append(spec)\n    return seen\n"
    )
    registry = loaded(tmp_path, text)
    assert registry.listeners == [("ovvol_run_started", f"file {tmp_path / 'mine.py'}")]
    assert registry.hook.ovvol_run_started(spec={"seed": 0}) == [[{"seed": 0}]]


def test_registries_share_nothing(tmp_path):
    first, second = loaded(tmp_path, GOOD), load_registry(only=[])
    assert first.names("grouper")
    assert not second.names("grouper")
    assert second.hook.ovvol_groupers.get_hookimpls() == []


LOCATED = """
from pathlib import Path
from typing import Annotated
from ovvol_bench.errors import DataError, WeightsError
from ovvol_bench.registry import Entry, Located, Pretrained, Weights, hookimpl

def build_grouper(
    *,
    weights: Annotated[str | None, Weights] = None,
    pretrained: Annotated[str | None, Pretrained] = "towers",
    says: str = "",
):
    raise WeightsError(says)

def build_dataset(*, path: Annotated[Path, Located], says: str):
    raise DataError(says)

@hookimpl
def ovvol_groupers():
    yield Entry("mine", build_grouper, "fails")

@hookimpl
def ovvol_datasets():
    yield Entry("mine", build_dataset, "fails")
"""


@pytest.mark.parametrize(
    ("options", "says", "expected"),
    [
        ({"weights": "w.pth"}, "/folder/w.pth: is empty.", "grouper.weights: /folder/w.pth: is empty."),
        ({"weights": "w.pth"}, "no towers here.", "grouper.pretrained: no towers here."),
        ({"weights": "w.pth"}, "it fails.", "grouper.weights or grouper.pretrained: it fails."),
        ({}, "it fails.", "grouper.pretrained: it fails."),
        ({"pretrained": "none"}, "it fails.", "it fails."),
        ({}, "set grouper.pretrained.", "set grouper.pretrained."),
    ],
)
def test_errors_about_weights_name_the_setting(tmp_path, options, says, expected):
    with pytest.raises(WeightsError) as caught:
        loaded(tmp_path, LOCATED).build("grouper", "mine", {**options, "says": says})
    assert str(caught.value).partition(" Settings of the grouper")[0] == expected


@pytest.mark.parametrize(
    ("says", "expected"),
    [
        ("data/a.json: is empty.", "dataset.path: data/a.json: is empty."),
        ("it fails.", "it fails."),
        ("data: set dataset.path.", "data: set dataset.path."),
    ],
)
def test_errors_about_data_name_the_setting_whose_place_they_show(tmp_path, says, expected):
    with pytest.raises(DataError) as caught:
        loaded(tmp_path, LOCATED).build("dataset", "mine", {"path": "data", "says": says})
    assert str(caught.value) == expected


def test_training_settings_that_a_dataset_has_not_are_refused(tmp_path):
    text = LOCATED.replace('build_dataset, "fails")', 'build_dataset, "fails", training={"splt": "train"})')
    assert "training names 'splt', which is none of its settings" in refusal(tmp_path, text)


def test_weights_that_do_not_fit_come_with_the_settings_that_were_changed(tmp_path):
    text = LOCATED.replace("    weights:", "    width: int = 64,\n    weights:")
    with pytest.raises(WeightsError, match=r"beside its defaults: width=7, says=no fit\.\.$"):
        loaded(tmp_path, text).build("grouper", "mine", {"weights": "w.pth", "width": 7, "says": "no fit."})
