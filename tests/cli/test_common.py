"""Options that mean the same in every command."""

import math

import click
import pytest
from click.testing import CliRunner

from ovvol_bench.cli.common import (
    echo_json,
    echo_table,
    parse_settings,
    plugin_option,
    registry_from,
    settings_option,
)
from ovvol_bench.errors import SettingError


def test_settings_are_sorted_by_kind():
    texts = ["grouper.num_slots=8", "encoder.weights=a=b.pt", "grouper.seed=3", "naming.merge=none"]
    assert parse_settings(texts) == {
        "grouper": {"num_slots": "8", "seed": "3"},
        "encoder": {"weights": "a=b.pt"},
        "naming": {"merge": "none"},
    }


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["grouper.seed="], "-o grouper.seed= gives no value"),
        (["grouper.num_slots"], "-o 'grouper.num_slots' has no '='. Expected KIND.SETTING=VALUE"),
        (["groper.num_slots=8"], "unknown kind 'groper'. Did you mean 'grouper'? Kinds: encoder, grouper,"),
        (["num_slots=8"], "unknown kind 'num_slots'"),
        (["grouper=8"], "names no setting of the grouper"),
        (["grouper.=8"], "names no setting of the grouper"),
        (["grouper:kmeans=8"], "names no setting of the grouper"),
        (["grouper:kmeans.=8"], "for one of several KIND:NAME.SETTING, as in grouper:kmeans.num_slots"),
        (["groper:kmeans.num_slots=8"], "unknown kind 'groper'"),
        (["grouper.a=1", "grouper.a=2"], "-o grouper.a is given twice: '1' and '2'."),
    ],
)
def test_a_malformed_setting_is_explained(texts, expected):
    with pytest.raises(SettingError) as caught:
        parse_settings(texts)
    assert expected in str(caught.value)


def test_a_command_gets_its_settings_parsed():
    @click.command()
    @settings_option
    def command(settings):
        click.echo(settings)

    assert CliRunner().invoke(command, ["-o", "dataset.path=x"]).output == "{'dataset': {'path': 'x'}}\n"


def test_plugin_files_count_before_and_after_the_command(tmp_path, monkeypatch):
    monkeypatch.setenv("OVVOL_PLUGINS", "")
    for name in ("first", "second"):
        (tmp_path / f"{name}.py").write_text(
            "from ovvol_bench import Entry, hookimpl\n"
            f"@hookimpl\ndef ovvol_groupers():\n    yield Entry('{name}', lambda: 0, '')\n"
        )

    @click.group()
    @plugin_option
    def group(): ...

    @group.command()
    @plugin_option
    @click.pass_context
    def names(context):
        registry = registry_from(context)
        click.echo(registry.names("grouper"))
        click.echo(registry is registry_from(context))

    arguments = ["--plugin", str(tmp_path / "first.py"), "names", "--plugin", str(tmp_path / "second.py")]
    assert CliRunner().invoke(group, arguments).output == "['first', 'second']\nTrue\n"


def test_tables_keep_numbers_and_blanks_as_they_are(capsys):
    echo_table([{"name": "a", "version": "1.10"}, {"name": "b", "version": None}])
    assert capsys.readouterr().out.splitlines() == [
        "name    version",
        "------  ---------",
        "a       1.10",
        "b",
    ]


def test_an_empty_table_prints_nothing(capsys):
    echo_table([])
    assert capsys.readouterr().out == ""


def test_json_holds_no_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        echo_json({"value": math.nan})
