"""Tables of text in terminals of any width."""

import re
from pathlib import Path

import pytest
from stored_results import as_read
from throughput_results import row, throughput

from ovvol_bench.api.result import Result, compare
from ovvol_bench.report.speed import render_throughput
from ovvol_bench.results import tables
from ovvol_bench.results.layout import Grid, TextColumn, fitted
from ovvol_bench.results.references import load_references, render_references
from ovvol_bench.throughput.record import parse_throughput

REFERENCES = Path(__file__).parents[2] / "results" / "reference"
LEFT_OUT = "left out to fit the terminal: "


def render(results, *args, **named):
    return tables.render(as_read(results), *args, **named)


def table_of(text):
    """The lines of the first table in a text, from its header on."""
    return text.split("\n\n")[1].split("\n")


def words_of_header(text):
    """The headers of the first table, put together again, without %."""
    lines = table_of(text)
    ruled = next(place for place, line in enumerate(lines) if line.startswith("--"))
    starts = [found.start() for found in re.finditer("-+", lines[ruled])]
    slices = [slice(start, end) for start, end in zip(starts, [*starts[1:], None], strict=True)]
    return ["".join(line[at].strip() for line in lines[:ruled]).rstrip("% ") for at in slices]


def left_out(text):
    lines = [line for line in text.splitlines() if line.startswith(LEFT_OUT)]
    return lines[0].removeprefix(LEFT_OUT).split(". ")[0].split(", ") if lines else []


def widest(text):
    return max(map(len, table_of(text)))


def test_headers_are_broken_before_anything_is_left_out(make_result):
    full = render([make_result()], width=None)
    assert widest(full) > 80
    narrow = render([make_result()], width=80)
    assert widest(narrow) <= 80
    assert not left_out(narrow)
    assert words_of_header(narrow) == words_of_header(full)
    assert table_of(narrow)[-1].split() == table_of(full)[-1].split()


def test_a_table_that_fits_and_other_styles_are_as_in_files(make_result):
    assert render([make_result()], width=200) == render([make_result()])
    assert render([make_result()], style="markdown", width=40) == render([make_result()], style="markdown")


def test_columns_are_left_out_from_the_least_important_on(make_result):
    results = [make_result(seed=seed) for seed in range(3)]
    columns = [
        "encoder",
        "grouper",
        "labeler",
        "detrate",
        "boxes_per_frame",
        "ap50",
        "corloc_top1",
        "clips_per_s",
    ]
    lost = [left_out(render(results, columns, width=width)) for width in range(120, 40, -1)]
    assert [each for before, each in zip([[], *lost], lost, strict=False) if each != before][:5] == [
        ["clips_per_s"],
        ["clips_per_s", "seeds"],
        ["boxes_per_frame", "clips_per_s", "seeds"],
        ["boxes_per_frame", "corloc_top1", "clips_per_s", "seeds"],
        ["boxes_per_frame", "ap50", "corloc_top1", "clips_per_s", "seeds"],
    ]


def test_the_line_about_what_is_left_out_says_how_to_see_it(make_result):
    text = render([make_result()], width=72)
    assert text.splitlines()[-2] == (
        f"{LEFT_OUT}clips_per_s. To see every column, pipe the output: ... | less -S"
    )
    assert widest(text) <= 72


def test_what_tells_rows_apart_stays(make_result):
    results = [make_result(options={"num_slots": slots}) for slots in (4, 8)]
    assert "slots" in words_of_header(render(results, width=60))
    results[0]["grouper"]["name"] = "kmeans"
    assert "slots" in left_out(render(results, width=55))


def test_settings_and_failures_stay_and_are_broken(make_result):
    runs = [make_result(options={"temperature": 0.5, "iterations": n, "seeding": "far"}) for n in (1, 20)]
    runs[0]["grouper"]["options"]["temperature"] = 0.25
    runs += [make_result(grouper="broken", error="no weights", status="failed")]
    text = render(runs, width=80)
    assert widest(text) <= 80
    assert "settings" in words_of_header(text)
    assert "status" in words_of_header(text)
    assert all("=" in line for line in "\n".join(table_of(text)).split("grouper.")[1:])


def test_what_ties_leave_open_stands_below_its_number(make_result):
    result = make_result()
    result["metrics"]["ap50@vid-reference"]["notes"] = {"tie_span": [0.1, 0.2]}
    lines = table_of(render([result], spans=True, width=80))
    assert max(map(len, lines)) <= 80
    assert [line.split()[-2:] for line in lines[-1:]] == [["to", "20.0)"]]


def test_a_table_that_cannot_fit_is_as_in_files(make_result):
    assert render([make_result()], width=30) == render([make_result()])
    columns = [TextColumn("number", ["ap50@vid-reference"]), TextColumn("reached %", ["10.0"], numeric=True)]
    grid = Grid("shares", columns)
    assert grid.render("text", width=20) == grid.render("text")


def test_long_words_of_prose_are_broken():
    columns = [
        TextColumn("name", ("a",)),
        TextColumn("source", ("https://" + 40 * "x" + " README",), prose=True),
    ]
    text, nothing = fitted("-" * 60, columns, 40)
    assert max(map(len, text.splitlines())) <= 40
    assert not nothing
    assert "".join(text.split()[4:]).replace("a", "", 1) == columns[1].cells[0].replace(" ", "")


@pytest.mark.parametrize("width", [80, 100])
def test_all_other_tables_fit_as_well(make_result, width):
    agreement = {
        **{"encoder": "videomae", "grouper": "kmeans", "labeler": "pacl", "size": [96, 128]},
        **{"precision": "bfloat16", "clips": 150, "patches_same": 0.98, "names_same": 0.96},
        "patch_cosine": {"mean": 0.99997, "least": 0.9957},
        "metrics": {"corloc_top1@vid-reference": {"reference": 0.22, "fast": 0.23, "difference": 0.01}},
    }
    rows = [row(2.0), row(3.0, grouper="slot_attention", batch_size=4), row(1.0, fidelity="reference")]
    by_video = [{"ap50": [value + 0.01 * video for video in range(20)]} for value in (0.2, 0.4)]
    runs = [make_result(grouper=f"grouper_{n}", by_video=each) for n, each in enumerate(by_video)]
    for text in (
        render_throughput([parse_throughput(throughput(rows, agreement=[agreement]), "x")], width=width),
        render_references(load_references(REFERENCES), "text", width=width),
        compare(*map(Result, as_read(runs)), best_first=True).table(width=width),
    ):
        blocks = [block.split("\n") for block in text.split("\n\n")]
        tables = [block for block in blocks if any(line.startswith("---") for line in block)]
        assert tables
        assert max(len(line) for table in tables for line in table) <= width
