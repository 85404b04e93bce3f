import pytest
import throughput_results
from stored_results import as_read
from throughput_results import part, row

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.report.speed import number, render_throughput, write_speed_chart
from ovvol_bench.throughput.record import parse_throughput

OTHER = {"cpu": "Opteron"}
AGREEMENT = {
    "encoder": "videomae",
    "grouper": "kmeans",
    "labeler": "pacl",
    "size": [96, 128],
    "precision": "bfloat16",
    "clips": 150,
    "patches_same": 0.9788,
    "names_same": 0.96,
    "patch_cosine": {"mean": 0.99997, "least": 0.9957},
    "metrics": {
        "ap50@vid-reference": {"reference": 0.2246, "fast": 0.2279, "difference": 0.0033},
        "boxes_per_frame@vid-reference": {"reference": 3.27, "fast": 3.19, "difference": -0.08},
        "ap50_fast@vid-reference": {"reference": None, "fast": None, "difference": None},
    },
}


def throughput(*args, **named):
    """A measurement as if it were read from a file."""
    return parse_throughput(throughput_results.throughput(*args, **named), "made up")


def tables(text):
    """Title to lines, of tables set as text."""
    found, title = {}, None
    for line in text.splitlines():
        if " · " in line or ("reference" in line and not line.startswith(" ") and "  " not in line):
            title = line
            found[title] = []
        elif title and line.strip():
            found[title].append(line.split())
    return found


def test_a_machine_has_tables_of_its_own():
    text = render_throughput([throughput([row(2.0)]), throughput([row(1.0)], OTHER)])
    speeds = {title: lines for title, lines in tables(text).items() if title.startswith("Speed")}
    xeon, opteron = (next(t for t in speeds if name in t) for name in ("Xeon", "Opteron"))
    assert len(speeds) == 2
    assert any(line[0] == "2.00" for line in speeds[xeon])
    assert not any(line[0] == "1.00" for line in speeds[xeon])
    assert any(line[0] == "1.00" for line in speeds[opteron])


def test_files_of_one_machine_share_tables():
    text = render_throughput([throughput([row(2.0)]), throughput([row(1.0, grouper="grid")])])
    assert text.count("Speed · ") == 1
    assert "videomae + kmeans + pacl" in text
    assert "videomae + grid + pacl" in text


def test_nothing_is_marked_as_best():
    text = render_throughput([throughput([row(2.0), row(4.0, batch_size=4)])], "markdown")
    table = text.split("\n\n")[1]
    assert "**" not in table and "<u>" not in table


def test_speed_is_compared_with_reference_at_its_smallest_batch():
    rows = [
        row(2.0, fidelity="reference"),
        row(2.5, fidelity="reference", batch_size=4),
        row(8.0, batch_size=4),
        row(3.0, grouper="grid"),
    ]
    lines = [line for title, lines in tables(render_throughput([throughput(rows)])).items() for line in lines]
    fast = next(line for line in lines if "8.00" in line)
    assert "4.00" in fast
    assert next(line for line in lines if "3.00" in line and "grid" in line).count("–") == 1


def test_what_rows_share_stands_in_the_title():
    text = render_throughput([throughput([row(2.0), row(3.0, batch_size=4)])])
    assert "videomae + kmeans + pacl · frames of shapes · 96x128 · fast · bfloat16" in text.splitlines()[0]
    assert text.splitlines()[2].split()[0] == "batch"


def test_stages_parts_and_notes():
    rows = [row(2.0)]
    failed = [{"what": "videomae+grid+pacl 96x128 batch 16 fast", "error": "out of memory"}]
    text = render_throughput([throughput(rows, failures=failed)])
    for expected in (
        "decode",
        "metrics",
        "500",
        "1.82",
        "11.0",
        "1.25",
        "out of memory",
        "72.3",
        "2026-09-01",
    ):
        assert expected in text


def test_uncounted_rows_have_dashes_or_no_table():
    bare = row(2.0, flops=None, parameters=None, share_of_peak=None)
    text = render_throughput([throughput([bare])])
    assert "Parameters" not in text
    assert "encode %" not in text


def test_agreement_in_points():
    failed = {key: AGREEMENT[key] for key in ("encoder", "labeler", "size", "precision")}
    entries = [AGREEMENT, {**failed, "grouper": "grid", "error": "the grouper fell over"}]
    text = render_throughput([throughput([row(2.0)], agreement=entries)])
    for expected in ("97.88", "0.99570", "fell over"):
        assert expected in text
    metrics = [" ".join(line) for line in tables(text)["Metrics of fast against reference"]]
    assert any(line.endswith("ap50@vid-reference % 22.46 22.79 +0.33") for line in metrics)
    assert any(line.endswith("boxes_per_frame@vid-reference 3.27 3.19 -0.08") for line in metrics)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(None, 1, "–"), (0.0, 1, "0"), (1234.4, 1, "1234"), (12.34, 1, "12.3"), (2.5e9, 1e9, "2.50")],
)
def test_numbers(value, unit, text):
    assert number(value, unit) == text


class TestChart:
    def chart(self, tmp_path, measured, results, metric="ap50"):
        return write_speed_chart(measured, results, metric, tmp_path / "speed.png")

    @pytest.fixture
    def result(self, make_result):
        """A result of the combination that ``row`` measures."""
        found = make_result(grouper="kmeans", fidelity="fast")
        parts = {kind: part(found[kind]["name"]) for kind in ("encoder", "grouper", "labeler")}
        return as_read([found | parts])[0]

    def test_draws_what_is_in_both(self, tmp_path, result):
        path = self.chart(tmp_path, [throughput([row(2.0)]), throughput([row(1.0)], OTHER)], [result])
        assert path.read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        "changed",
        [
            {"resized": True},
            {"grouper": part("kmeans", {"num_slots": 3})},
            {"labeler": part("pacl", {}, "ab" * 32)},
        ],
    )
    def test_other_sizes_settings_and_weights_have_no_accuracy(self, tmp_path, result, changed):
        with pytest.raises(DataError, match="no result has 'ap50@vid-reference'"):
            self.chart(tmp_path, [throughput([row(2.0) | changed])], [result])

    def test_other_data_and_fidelity_have_none(self, tmp_path, result):
        with pytest.raises(DataError, match="no result"):
            self.chart(tmp_path, [throughput([row(2.0, fidelity="reference")])], [result])
        other = throughput([row(2.0)], dataset={"name": "shapes", "fingerprint": "beef"})
        with pytest.raises(DataError, match="no result"):
            self.chart(tmp_path, [other], [result])

    def test_an_unknown_metric_is_refused(self, tmp_path, result):
        with pytest.raises(SettingError, match="--metric ap05"):
            self.chart(tmp_path, [throughput([row(2.0)])], [result], "ap05")
