"""Text from data can't act on a terminal, a page or a spreadsheet."""

import re

import pytest

from ovvol_bench.printing import for_csv, for_markdown, json_printable, printable, shortened

HOSTILE = ["\x1b[2J", "\x07", "\x9b31m", "a\u202eb", "\ud800", "a\r\nb", "\ue000x\ue001", "\x7f"]


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_nothing_that_a_terminal_acts_on_is_left(text):
    for changed in (printable(text), for_csv(text), shortened(text), json_printable(text)):
        assert changed.isprintable()
        changed.encode()


def test_usual_names_stay_as_they_are():
    for name in ("slot_attention", "grouper.num_slots=8", "ﬁ 漢字 🎈 ± –", "shapes test · 48 clips"):
        assert printable(name) == shortened(name) == for_markdown(name) == for_csv(name) == name


def test_markdown_shows_tags_bars_and_links_as_text():
    found = for_markdown("<script>a|b</script> [x](javascript:y) `z`")
    assert not re.search(r"<|\]\(|`", found) and "\\|" in found


@pytest.mark.parametrize(
    ("text", "expected"),
    [("=cmd|'/C calc'!A0", "'=cmd|'/C calc'!A0"), ("@SUM(1)", "'@SUM(1)"), ("-2+3", "'-2+3"), ("-2", "-2")],
)
def test_a_formula_is_text_to_a_spreadsheet_and_a_number_a_number(text, expected):
    assert for_csv(text) == expected


def test_a_name_is_cut_to_a_cell():
    assert len(shortened("L" * 20_000)) == 200
