"""Naming settings from files and the command line."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from ovvol_bench.errors import SettingError
from ovvol_bench.naming.settings import REFERENCE, NamingSettings, naming_settings


def test_text_is_read_as_numbers_flags_and_choices() -> None:
    options = {"temperature": "50", "filter_background": "false", "merge": "none", "templates": ["a %s"]}
    assert naming_settings(options) == NamingSettings(
        temperature=50.0, filter_background=False, merge="none", templates=("a %s",)
    )


def test_options_change_a_base() -> None:
    changed = naming_settings({"merge": "none"}, REFERENCE)
    assert changed.raw_names
    assert changed.merge == "none"


@pytest.mark.parametrize("settings", [REFERENCE, NamingSettings()])
def test_settings_survive_json(settings) -> None:
    assert naming_settings(json.loads(json.dumps(asdict(settings)))) == settings


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"merg": "none"}, r"Unknown naming setting 'merg'. Did you mean 'merge'\? Known: temperature"),
        ({"merge": "all"}, "naming.merge: .*same_name"),
        ({"temperature": "hot"}, "naming.temperature: .*number.* got 'hot'"),
        ({"temperature": 0}, "naming.temperature: expected a number above 0"),
        ({"temperature": "nan"}, "naming.temperature: expected a number above 0"),
        ({"templates": ["a photo"]}, "naming.templates: expected exactly one %s"),
    ],
)
def test_bad_settings_are_refused(options, message) -> None:
    with pytest.raises(SettingError, match=message):
        naming_settings(options)
