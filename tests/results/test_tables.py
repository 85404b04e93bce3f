"""What tables show, and what they never put side by side."""

import csv
import io
import json
import math

import pytest
from stored_results import as_read

from ovvol_bench.errors import SettingError
from ovvol_bench.results import tables


def render(results, *args, **named):
    return tables.render(as_read(results), *args, **named)


def cells_of(markdown):
    """Header and rows of the one table in a markdown text."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if set(line) - set("|:-")]
    return rows[0], rows[1:]


def test_shares_are_percentages_and_other_numbers_are_not(make_result):
    header, (row,) = cells_of(
        render([make_result()], ["corloc_any", "boxes_per_frame", "clips_per_s"], "markdown")
    )
    assert header == ["corloc_any %", "boxes_per_frame", "clips_per_s"]
    assert row == ["54.3", "2.31", "4.56"]


def test_counts_are_no_percentages_though_they_be_0_or_1(make_result):
    counts = ["boxes_per_frame", "id_switches_video", "active_slots", "over_segmentation_clip"]
    result = make_result(scores=dict.fromkeys(counts, 1))
    assert cells_of(render([result], counts, "markdown")) == (counts, [["1.00"] * 4])


def test_shares_below_0_are_percentages_and_what_is_below_minus_1_is_none(make_result):
    results = [make_result(grouper=f"{mota}", scores={"mota": mota, "ari": -0.125}) for mota in (0.5, -1.5)]
    header, rows = cells_of(render(results, ["mota", "ari"], "markdown"))
    assert (header, rows) == (["mota", "ari %"], [["0.50", "-12.5"], ["-1.50", "-12.5"]])


def test_undefined_is_a_dash_and_zero_is_a_number(make_result):
    _, (row,) = cells_of(
        render([make_result(scores={"ap50": None, "detrate": 0.0})], ["ap50", "detrate"], "markdown")
    )
    assert row == ["–", "0.0"]


def test_default_columns_leave_out_what_no_result_has(make_result):
    header, _ = cells_of(render([make_result(scores={"detrate": 0.5})], style="markdown"))
    assert header == ["encoder", "grouper", "labeler", "detrate %", "clips_per_s"]


def test_seeds_are_merged_with_their_spread_and_number(make_result):
    results = [make_result(seed=seed, scores={"ap50": 0.5 + 0.02 * seed}) for seed in range(3)]
    results[2]["metrics"]["detrate@vid-reference"] = {"value": 0.5, "count": 1}
    header, (row,) = cells_of(render(results, ["ap50", "detrate"], "markdown"))
    assert header == ["ap50 %", "detrate %", "seeds"]
    assert row == ["52.0 ± 2.0", "50.0 (n=1)", "3"]


def test_several_protocols_get_a_labelled_column_each(make_result):
    result = make_result(scores={"ap50": 0.5})
    result["metrics"]["ap50@vid-devkit"] = {"value": 0.25, "count": 3}
    header, (row,) = cells_of(render([result], ["ap50"], "markdown"))
    assert header == ["ap50@vid-devkit %", "ap50@vid-reference %"]
    assert row == ["25.0", "50.0"]
    assert cells_of(render([result], ["ap50@vid-devkit"], "markdown"))[1] == [["25.0"]]


@pytest.mark.parametrize(
    "other",
    [
        {"fingerprint": "beef" * 16},
        {"protocol": "vid-devkit"},
        {"dataset": {"name": "shapes", "options": {"split": "val"}, "fingerprint": "f00d" * 16, "clips": 48}},
        {"dataset": {"name": "shapes", "options": {"split": "test"}, "fingerprint": "f00d" * 16, "clips": 4}},
    ],
    ids=["content", "protocol", "split", "limit"],
)
def test_what_does_not_compare_stands_in_different_blocks(make_result, other):
    blocks = render([make_result(), make_result(seed=1, **other)], style="markdown").split("\n\n**")
    assert len(blocks) == 2


def test_rows_are_ranked_by_the_asked_column_with_undefined_ones_last(make_result):
    results = [
        make_result(grouper="low", scores={"ap50": 0.1, "detrate": 0.9}),
        make_result(grouper="none", scores={"ap50": None, "detrate": 0.5}),
        make_result(grouper="high", scores={"ap50": 0.8, "detrate": 0.1}),
    ]

    def order(sort_by):
        return [
            row[0] for row in cells_of(render(results, ["grouper", "ap50"], "markdown", sort_by=sort_by))[1]
        ]

    assert order("ap50") == order(None) == ["high", "low", "none"]
    assert order("detrate") == ["low", "none", "high"]
    assert order("grouper") == ["high", "low", "none"]


def spread(mean, step=0.0, count=20):
    """Values by video around a mean; equal differences between rows are sure, however videos vary."""
    return [mean + 0.2 * math.sin(index) + step * math.cos(3 * index) for index in range(count)]


def marked(results, column, style="markdown"):
    """The groupers whose number is bold, and those whose number is underlined."""
    _, rows = cells_of(render(results, ["grouper", column], style))
    return [row[0] for row in rows if row[1].startswith("**")], [row[0] for row in rows if "<u>" in row[1]]


def test_the_best_and_the_second_are_marked_where_videos_agree(make_result):
    results = [
        make_result(grouper=n, by_video={"ap50": spread(v)}) for n, v in (("a", 0.5), ("b", 0.4), ("c", 0.3))
    ]
    assert marked(results, "ap50") == (["a"], ["b"])
    assert r"\textbf{" in render(results, ["ap50"], "latex")
    assert r"\underline{" in render(results, ["ap50"], "latex")
    assert "<b>" in render(results, ["ap50"], "html")
    assert not {"\ue000", "**", "<b>"} & set(render(results, ["ap50"], "text"))


def test_nothing_is_marked_where_videos_disagree(make_result):
    close = [
        make_result(grouper=n, by_video={"ap50": spread(v, s)})
        for n, v, s in (("a", 0.5, 0.3), ("b", 0.49, -0.3))
    ]
    assert marked(close, "ap50") == ([], [])
    clear = make_result(grouper="c", by_video={"ap50": spread(0.9)})
    assert marked([*close, clear], "ap50") == (["c"], [])


def test_nothing_is_marked_where_too_little_is_known(make_result):
    few = [make_result(grouper=n, by_video={"ap50": spread(v, count=9)}) for n, v in (("a", 0.5), ("b", 0.4))]
    assert marked(few, "ap50") == ([], [])
    unknown = [make_result(grouper="a", by_video={"ap50": spread(0.5)}), make_result(grouper="b")]
    assert marked(unknown, "ap50") == ([], [])


def test_smaller_is_better_where_the_metric_says_so(make_result):
    results = [
        make_result(grouper=n, by_video={"error": spread(v)}) for n, v in (("a", 0.5), ("b", 0.4), ("c", 0.3))
    ]
    for result in results:
        result["metrics"]["error@vid-reference"]["higher_is_better"] = False
    assert marked(results, "error") == (["c"], ["b"])


def test_rows_that_leave_out_clips_are_not_marked(make_result):
    cut = {"clips": 48, "done": 12, "skipped": {"decode": 36}}
    partial = make_result(grouper="cut", by_video={"ap50": spread(0.9)}, coverage=cut)
    results = [partial] + [
        make_result(grouper=n, by_video={"ap50": spread(v)}) for n, v in (("a", 0.51), ("b", 0.4))
    ]
    assert marked(results, "ap50") == (["a"], [])
    _, rows = cells_of(render(results, ["grouper", "ap50"], "markdown"))
    assert rows[0] == ["cut", "90.1", "25.0 %, 36 decode"]


def test_equal_rows_have_no_best(make_result):
    equal = [make_result(grouper=name, by_video={"ap50": spread(0.5)}) for name in ("a", "b")]
    assert marked(equal, "ap50") == ([], [])


def test_speeds_of_different_machines_never_share_a_column(make_result):
    results = [make_result(speed=2.0), make_result(grouper="kmeans", speed=90.0, machine={"gpu": "H100"})]
    text = render(results, ["grouper", "clips_per_s"], "markdown")
    header, rows = cells_of(text)
    assert header == ["grouper", "clips_per_s [A]", "clips_per_s [B]"]
    assert rows == [["kmeans", "90.0", "–"], ["slot_attention", "–", "2.00"]]
    assert "clips_per_s [A] on H100" in text
    assert "clips_per_s [B] on Xeon, 2 cores, torch 2.15" in text


def test_the_machine_of_speeds_is_named(make_result):
    assert render([make_result()]).endswith("clips_per_s on Xeon, 2 cores, torch 2.15")
    assert "Xeon" not in render([make_result()], ["ap50"])


def test_failed_runs_are_shown_with_their_reason(make_result):
    failed = make_result(grouper="broken", error="grouper 'broken' returned NaN | twice")
    text = render([make_result(), failed], ["grouper", "ap50"], "markdown")
    assert cells_of(text)[1] == [["slot_attention", "10.5", "done"], ["broken", "–", "failed"]]
    assert "failed: videomae+broken+pacl, seed 0: grouper 'broken' returned NaN \\| twice" in text


def test_a_combination_with_a_failed_seed_says_so(make_result):
    text = render([make_result(), make_result(seed=1, error="out of memory")], ["ap50"], "markdown")
    assert cells_of(text)[1] == [["10.5", "1 of 2 failed"]]


def test_slots_resolution_frames_and_precision_are_columns_where_rows_differ(make_result):
    def of(short_side, **fields):
        result = make_result(**fields)
        result["dataset"]["options"] |= {"short_side": short_side, "frames_per_clip": 8}
        return result

    results = [
        of(224, grouper="kmeans", options={"num_slots": 7, "restarts": 1}, scores={"ap50": 0.5}),
        of(96, grouper="kmeans", options={"num_slots": 9, "restarts": 2}, scores={"ap50": 0.4}),
        of(96, grouper="grid", scores={"ap50": 0.3}),
    ]
    header, rows = cells_of(render(results, ["grouper", "ap50"], "markdown"))
    assert header == ["grouper", "ap50 %", "slots", "resolution", "settings"]
    assert [row[2:] for row in rows] == [
        ["7", "224", "grouper.restarts=1"],
        ["9", "96", "grouper.restarts=2"],
        ["–", "96", ""],
    ]
    header, _ = cells_of(render(results[1:], ["grouper", "ap50"], "markdown"))
    assert header == ["grouper", "ap50 %"]
    header, _ = cells_of(render(results, ["grouper.num_slots", "ap50"], "markdown"))
    assert header == ["grouper.num_slots", "ap50 %", "resolution", "settings"]


def test_several_blocks_are_ordered_by_the_asked_column_each(make_result):
    results = [
        make_result(grouper=name, protocol=protocol, scores={"detrate": value})
        for protocol in ("vid-reference", "vid-devkit")
        for name, value in (("low", 0.1), ("high", 0.9))
    ]
    for block in render(results, ["grouper", "detrate"], "markdown", sort_by="detrate").split("\n\n**"):
        assert [row[0] for row in cells_of(block)[1]] == ["high", "low"]


def test_settings_can_be_columns_and_bars_do_not_break_markdown(make_result):
    text = render([make_result(options={"mode": "a|b"})], ["grouper.mode"], "markdown")
    assert "| a\\|b" in text


def test_blocks_by_grouper(make_result):
    text = render([make_result(), make_result(grouper="kmeans")], by="grouper")
    assert [line.split(" · ")[-1] for line in text.splitlines() if "·" in line] == [
        "grouper kmeans",
        "grouper slot_attention",
    ]


def test_csv_and_json_carry_stored_numbers(make_result):
    results = [make_result(seed=seed, scores={"ap50": 0.5 + 0.25 * seed}) for seed in range(2)]
    results.append(make_result(grouper="kmeans", scores={"ap50": None}))
    first, second = csv.DictReader(io.StringIO(render(results, ["grouper", "ap50"], "csv")))
    assert (float(first["ap50@vid-reference"]), first["seeds"]) == (0.625, "2")
    assert float(first["ap50@vid-reference_std"]) == pytest.approx(0.17677669)
    assert (second["grouper"], second["ap50@vid-reference"]) == ("kmeans", "")
    records = json.loads(render(results, ["ap50"], "json"))
    assert [record["ap50@vid-reference"] for record in records] == [0.625, None]
    assert records[0]["ids"].split() == [result["id"] for result in results[:2]]


@pytest.mark.parametrize(("style", "sign"), [("latex", "\\toprule"), ("html", "<table>"), ("text", "-----")])
def test_every_style_for_people_has_its_marks(make_result, style, sign):
    assert sign in render([make_result()], style=style)


def test_latex_has_commands_in_place_of_characters_beyond_ascii(make_result):
    results = [
        make_result(grouper="my_cut", seed=seed, by_video={"ap50": spread(0.5 + 0.01 * seed)})
        for seed in range(2)
    ]
    results += [make_result(grouper="Siméoni", by_video={"ap50": spread(0.2)}), make_result(error="a\nb → c")]
    results.append(make_result(grouper="low", scores={"ap50": None}))
    text = render(results, ["grouper", "ap50"], "latex")
    assert text.isascii()
    rows = {line.split("&")[0].strip(): line for line in text.splitlines() if "&" in line}
    assert r"\textbf{" not in rows[r"my\_cut"]  # a row is not known by video
    assert r"\ensuremath{\pm}" in rows[r"my\_cut"]
    assert r"{\textendash}" in rows["low"]
    assert r"Sim\'eoni" in rows
    body = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")]
    outside = text.replace(body, "").splitlines()
    assert all(line.startswith("% ") for line in outside if r"\end" not in line)


def test_html_escapes_what_results_say(make_result):
    text = render([make_result(error="<script>")], style="html")
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_unknown_names_are_refused_with_the_nearest(make_result):
    with pytest.raises(SettingError, match=r"unknown column 'ap5'. Did you mean 'ap50'\?"):
        render([make_result()], ["ap5"])
    with pytest.raises(SettingError, match="unknown column 'nice'"):
        render([make_result()], sort_by="nice")
    with pytest.raises(SettingError, match="--by: got 'colour'"):
        render([make_result()], by="colour")
    with pytest.raises(SettingError, match="table style: got 'pdf'"):
        render([make_result()], style="pdf")


def test_oracles_have_a_table_of_their_own(make_result):
    text = render([make_result(), make_result(grouper="told", oracle=True)], style="markdown")
    real, told = text.split("oracle: told the truth")
    assert "slot_attention" in real
    assert "| told" not in real
    assert "slot_attention" not in told


def test_weights_that_learned_from_what_is_scored_are_marked(make_result):
    text = render([make_result(), make_result(grouper="leaky", seen={"grouper": 40})], style="markdown")
    marked = {line.split("|")[2].strip() for line in text.splitlines() if "grouper 40" in line}
    assert marked == {"leaky"}
    assert "seen: so many of the videos" in text
    assert "seen" not in render([make_result()], style="markdown")


@pytest.mark.parametrize(("high", "cell"), [(0.157, "10.5 (ties 10.5 to 15.7)"), (0.1054, "10.5")])
def test_what_ties_leave_open_is_printed_where_it_shows(make_result, high, cell):
    result = make_result(scores={"ap50": 0.105})
    result["metrics"]["ap50@vid-reference"]["notes"] = {"tie_span": [0.105, high]}
    assert cells_of(render([result], ["ap50"], "markdown", spans=True))[1] == [[cell]]
    assert cells_of(render([result], ["ap50"], "markdown"))[1] == [["10.5"]]


HOSTILE = "<script>a|b</script>\x1b[2J\ue000"


def hostile(make_result):
    result = make_result(grouper=HOSTILE, options={"num_slots": "=cmd|'/C calc'!A0"})
    result["dataset"] = {**result["dataset"], "name": HOSTILE}
    other = make_result(grouper=HOSTILE, options={"num_slots": "+1+1"}, seed=1)
    return [result, {**other, "dataset": result["dataset"]}, make_result(error=HOSTILE)]


@pytest.mark.parametrize("style", ["text", "markdown", "csv", "latex", "html"])
def test_names_from_files_move_no_cursor_and_open_no_tag(make_result, style):
    text = render(hostile(make_result), style=style)
    assert all(line.isprintable() for line in text.split("\n"))
    if style in ("markdown", "html"):
        assert "<script" not in text
    if style == "markdown":
        widths = {line.count("|") - line.count("\\|") for line in text.splitlines() if line.startswith("|")}
        assert len(widths) <= 2  # one a table


def test_a_formula_in_a_setting_is_text_in_csv(make_result):
    rows = list(csv.reader(io.StringIO(render(hostile(make_result), ["grouper.num_slots", "ap50"], "csv"))))
    assert {"'=cmd|'/C calc'!A0", "'+1+1"} <= {cell for row in rows for cell in row}


def test_latex_heads_columns_as_papers_do(make_result):
    text = render([make_result()], ["corloc_any", "detrate", "ap50"], "latex")
    assert r"CorLoc \%" in text and r"DetRate \%" in text and r"AP$_{50}$ \%" in text
