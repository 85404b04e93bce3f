"""``ovvol-bench export``: what a run found, as files of other programs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from ovvol_bench.cli import main

RUNS = Path(__file__).parents[1] / "runs"
PLUGIN = ["--plugin", str(RUNS / "tiny_plugin.py")]
DATASET = ["-o", "dataset.split=val", "-o", "dataset.videos=2"]
ENV = {"OVVOL_PLUGINS": "metrics,data"}
FILES = {
    "coco": "found.json",
    "coco-vid": "found.json",
    "youtube-vis": "found.json",
    "vid-devkit": "found.txt",
    "mot": "found",
}


def invoke(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)), env=ENV)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    done = invoke(
        "run", "--preset", RUNS / "tiny.yaml", *PLUGIN, "--dataset", "shapes", *DATASET, "--output", root
    )
    assert done.exit_code == 0, done.output
    return next(root.rglob("result.json")).parent


@pytest.fixture
def export(folder, tmp_path):
    def export(name, *options):
        out = tmp_path / "-".join([name, *options]) / FILES[name]
        done = invoke("export", folder, out, "--format", name, *options, *PLUGIN)
        assert done.exit_code == 0, done.output
        return out, done

    return export


def scored(path, *options):
    done = invoke("eval", path, "--truth", "shapes", *DATASET, *options, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", FILES)
def test_a_run_scores_the_same_after_its_export(folder, export, name):
    """Under any protocol; but youtube-vis can't say which segments aren't shown."""
    out, done = export(name, *(["--masks"] if name == "youtube-vis" else []), "--labels", "all")
    assert f"detections, {name}" in done.stdout
    metrics = "corloc,detrate,vid_ap,boxes_per_frame,naming_accuracy,naming_ece,confusion,coco_ap,box_abo"
    for protocol in ("vid-devkit", *(["vid-reference"] if name != "youtube-vis" else [])):
        asked = ("--metrics", metrics, "--protocol", protocol)
        ours = json.loads(invoke("eval", folder, *asked, "--format", "json", *PLUGIN).stdout)["metrics"]
        theirs = scored(out, *asked)["metrics"]
        assert {f"ap50@{protocol}", f"boxes_per_frame@{protocol}", "ap@coco"} <= theirs.keys()
        for key, value in theirs.items():
            assert value["value"] == pytest.approx(ours[key]["value"], abs=1e-15, nan_ok=True), key


def test_what_is_lost_is_said_line_by_line(export):
    def lost(*arguments):
        lines = export(*arguments)[1].stderr.splitlines()
        return [line.removeprefix("not in the file: ") for line in lines]

    slots, others, size, *rest = lost("vid-devkit")
    assert slots == "slots"
    assert others.startswith("probabilities of all classes but the best")
    assert "the size at which models saw frames" in size
    assert rest == ["which frames were looked at and have nothing", "tracks", "masks"]
    *_, masks, _ = lost("coco", "--labels", "all")
    assert masks == "masks (kept with --masks)"
    assert not any("masks" in line for line in lost("coco-vid", "--masks"))


def test_settings_of_metrics_are_said_as_eval_takes_them(tmp_path):
    settings = [*DATASET, "-o", "metric.ties=reference", "-o", "grouper.num_slots=2"]
    done = invoke(
        "run", "--preset", RUNS / "tiny.yaml", *PLUGIN, "--dataset", "shapes", *settings, "--output", tmp_path
    )
    assert done.exit_code == 0, done.output
    folder = next(tmp_path.rglob("result.json")).parent
    done = invoke("export", folder, tmp_path / "out.json", "--format", "coco", *PLUGIN)
    line = "not in the file: setting ties of vid_ap: give eval --metrics vid_ap -o metric.ties=reference"
    assert [each for each in done.stderr.splitlines() if "setting" in each] == [line]


def test_links_make_fewer_tracks(export):
    def tracks(*options):
        out, _ = export("coco", *options)
        return {(entry["video_id"], entry["track_id"]) for entry in json.loads(out.read_text())}

    assert 0 < len(tracks("--link")) < len(tracks())


def test_linked_tracks_are_scored_over_videos(export):
    asked = ("--metrics", "tube_ap", "-o", "metric.unit=video")
    out, _ = export("coco", "--link")
    assert scored(out, *asked)["metrics"]["tube_ap_video@ytvis-box"]["count"] > 0


def test_all_metrics_of_a_run(folder, export):
    """Metrics of masks, tracks and slots fit our own form, and what doesn't fit is said."""
    done = invoke("eval", folder, "--metrics", "all", "--format", "json", *PLUGIN)
    assert done.exit_code == 0, done.output
    ours = json.loads(done.stdout)["metrics"]
    assert {"fg_ari_clip@slots-frame", "ap50@vid-reference", "ap@coco"} <= ours.keys()
    assert "left out" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--format", "cocoa"], "unknown format 'cocoa'. Did you mean 'coco'?"),
        (["--format", "youtube-vis"], "there are none. Add --masks"),
        ([], "Missing option '--format'"),
    ],
)
def test_bad_input_is_one_message(folder, tmp_path, arguments, expected):
    done = invoke("export", folder, tmp_path / "out.json", *arguments, *PLUGIN)
    assert done.exit_code == 2
    assert expected in done.stderr
    assert not list(tmp_path.iterdir())


def test_only_runs_are_exported(tmp_path):
    done = invoke("export", tmp_path, tmp_path / "out.json", "--format", "coco")
    assert done.exit_code == 2
    assert "is not a run folder" in done.stderr
