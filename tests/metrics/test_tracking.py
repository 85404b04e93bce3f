"""HOTA, IDF1, MOTA and switches against trackeval's own run on MOT files, and worked cases."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest
from tracked_scenes import CLASSES, FRAMES, HEIGHT, WIDTH, detections, detections_near, frame_truth, truth_of

from ovvol_bench.data.base import FileIds
from ovvol_bench.detections import Detections, Frames
from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.formats.entries import Content
from ovvol_bench.formats.mot import read
from ovvol_bench.metrics import evaluate_detections
from ovvol_bench.metrics.tracking import IdSwitches, Scene, Tracking
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.types import ClipInfo, FrameTruth

pytest.importorskip("trackeval", reason="the extra 'tracking' is not installed")
NAMES = ("hota", "deta", "assa", "loca", "idf1", "mota")


def scored(found, infos, **settings):
    chosen = {"unit": "video", **settings}
    results = evaluate_detections(found, infos, [Tracking(**chosen), IdSwitches(**chosen)])
    return {key.split("@")[0]: value for key, value in results.items()}


# --- trackeval on files --------------------------------------------------------------------------


def write_mot(folder, infos, found, class_id):
    """One file a video with truth and one with detections, of one class or (0) of any as one."""
    for number in range(len(found.frames.videos)):
        truth = folder / "gt" / f"v{number}" / "gt" / "gt.txt"
        ours = folder / "trackers" / "ours" / "data" / f"v{number}.txt"
        truth.parent.mkdir(parents=True)
        ours.parent.mkdir(parents=True, exist_ok=True)
        lines = []
        for info in infos:
            if info.video != found.frames.videos[number]:
                continue
            for index, frame in zip(info.frame_indices, info.truth, strict=True):
                for track, own, box in zip(frame.track_ids, frame.class_ids, frame.boxes, strict=True):
                    if class_id in (0, own):
                        lines.append(f"{index + 1},{track},{mot(box)},1,1,1")
        truth.write_text("\n".join(lines))
        lines = []
        for row in np.flatnonzero(found.video == number):
            if class_id in (0, found.class_ids[row]):
                index = found.frames.index[found.frame[row]] + 1
                lines.append(
                    f"{index},{found.tracks[row]},{mot(found.boxes[row])},{found.scores[row]},-1,-1,-1"
                )
        ours.write_text("\n".join(lines))


def mot(box):
    x1, y1, x2, y2 = map(float, box)
    return f"{x1},{y1},{x2 - x1 + 1},{y2 - y1 + 1}"


def official(folder, infos, found, class_id):
    """trackeval's combined numbers of a class, by metric."""
    write_mot(folder, infos, found, class_id)
    return official_numbers(folder, len(found.frames.videos))


def official_numbers(folder, videos):
    """trackeval's combined numbers of the files in a folder, by metric."""
    import trackeval

    quiet = {"PRINT_CONFIG": False}
    data = trackeval.datasets.MotChallenge2DBox(
        {
            **quiet,
            "GT_FOLDER": str(folder / "gt"),
            "TRACKERS_FOLDER": str(folder / "trackers"),
            "SEQ_INFO": {f"v{number}": 2 * FRAMES for number in range(videos)},
            "SKIP_SPLIT_FOL": True,
            "DO_PREPROC": False,
        }
    )
    options = (
        "PRINT_RESULTS",
        "PRINT_CONFIG",
        "TIME_PROGRESS",
        "OUTPUT_SUMMARY",
        "OUTPUT_DETAILED",
        "PLOT_CURVES",
    )
    run = trackeval.Evaluator(
        {
            "USE_PARALLEL": False,
            "BREAK_ON_ERROR": True,
            "OUTPUT_EMPTY_CLASSES": False,
            **dict.fromkeys(options, False),
        }
    )
    metrics = [
        trackeval.metrics.HOTA(),
        trackeval.metrics.CLEAR(dict(quiet)),
        trackeval.metrics.Identity(dict(quiet)),
    ]
    results, _ = run.evaluate([data], metrics)
    return results["MotChallenge2DBox"]["ours"]["COMBINED_SEQ"]["pedestrian"]


def numbers(scores):
    fields = {"hota": "HOTA", "deta": "DetA", "assa": "AssA", "loca": "LocA"}
    hota = {name: np.mean(scores["HOTA"][field]) for name, field in fields.items()}
    return {
        **hota,
        "idf1": scores["Identity"]["IDF1"],
        "mota": scores["CLEAR"]["MOTA"],
        "id_switches": scores["CLEAR"]["IDSW"],
    }


@pytest.mark.parametrize("seed", range(4))
def test_numbers_are_those_of_trackeval_on_files(tmp_path, capsys, seed):
    rng = np.random.default_rng(seed)
    infos = truth_of(rng, videos=4)
    found = detections_near(infos, rng)
    expected = numbers(official(tmp_path, infos, found, 0))
    capsys.readouterr()
    ours = scored(found, infos, class_agnostic=True)
    assert capsys.readouterr().out == ""
    assert expected["id_switches"] > 0
    for name, value in expected.items():
        assert ours[f"{name}_video_agnostic"].value == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize(("seed", "conf"), [(0, "-1"), (1, "-1"), (2, "-0.25"), (3, "0.5")])
def test_raw_files_out_of_the_frame_and_unscored_give_trackevals_numbers(tmp_path, seed, conf):
    """Boxes with two decimals, beyond all edges, without class; trackeval reads the same files."""
    rng = np.random.default_rng(seed)
    infos, videos = [], 3
    for number in range(videos):
        gt, raw, truth = [], [], []
        for frame in range(8):
            boxes = np.stack([rng.integers(-6, WIDTH, 3), rng.integers(-6, HEIGHT, 3)], 1)
            boxes = np.concatenate([boxes, boxes + rng.integers(3, 12, (3, 2))], 1)
            flags = np.zeros(3, np.bool_)
            columns = (boxes.astype(np.float32), np.ones(3, np.int64), np.arange(3), flags, flags)
            truth.append(FrameTruth(*columns, np.ones(3, np.float32)))
            gt += [f"{frame + 1},{track + 1},{mot(box)},1,1,1" for track, box in enumerate(boxes)]
            for track, box in enumerate(boxes[: rng.integers(1, 4)]):
                x, y, x2, y2 = np.round(box + rng.normal(0, 1, 4) * (1, 1, 0, 0), 2)
                other = track + 1 + 3 * (rng.random() < 0.2)
                size = f"{max(x2 - x + 1, 1):.2f},{max(y2 - y + 1, 1):.2f}"
                raw.append(f"{frame + 1},{other},{x},{y},{size},{conf},-1,-1,-1")
        for path, lines in ((f"gt/v{number}/gt/gt.txt", gt), (f"trackers/ours/data/v{number}.txt", raw)):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text("\n".join(lines))
        infos.append(ClipInfo(f"v{number}-0", f"v{number}", tuple(range(8)), (HEIGHT, WIDTH), tuple(truth)))
    content = Content(Frames.of(infos), FileIds({}, {}, {1: 1}), ("none", "pedestrian"))
    found, report = read(tmp_path / "trackers/ours/data", content)
    assert report.out_of_frame > 0
    assert bool(report.unscored) == (conf == "-1")
    ours = scored(found, infos)
    for name, value in numbers(official_numbers(tmp_path, videos)).items():
        assert 0 < abs(value) != 1
        assert ours[f"{name}_video"].value == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize("seed", range(2))
def test_averages_over_classes_are_those_of_trackeval(tmp_path, seed):
    from trackeval.metrics import CLEAR, HOTA, Identity

    rng = np.random.default_rng(seed)
    infos = truth_of(rng, videos=4)
    found = detections_near(infos, rng)
    parts = {each: official(tmp_path / str(each), infos, found, each) for each in range(1, CLASSES + 1)}
    kinds = {
        "HOTA": HOTA(),
        "CLEAR": CLEAR({"PRINT_CONFIG": False}),
        "Identity": Identity({"PRINT_CONFIG": False}),
    }
    for average, suffix in (("detections", ""), ("classes", "_classes")):
        ours = scored(found, infos, average=average)
        method = f"combine_classes_{'det' if average == 'detections' else 'class'}_averaged"
        joined = {
            kind: getattr(metric, method)({each: part[kind] for each, part in parts.items()})
            for kind, metric in kinds.items()
        }
        for name, value in numbers(joined).items():
            shown = "id_switches_video" if name == "id_switches" else f"{name}_video"
            assert ours[f"{shown}{suffix}"].value == pytest.approx(value, abs=1e-12), name


# --- worked cases --------------------------------------------------------------------------------


def one_video(*frames):
    """A video of one clip with (track, class, box) a frame."""
    rng = np.random.default_rng(0)
    truth = tuple(frame_truth(list(objects), rng) for objects in frames)
    return [ClipInfo("v-0", "video", tuple(range(len(frames))), (HEIGHT, WIDTH), truth)]


def found_in(infos, *rows, score=1.0):
    return detections(Frames.of(infos), list(rows), np.full(len(rows), score), np.random.default_rng(0))


BOX, OTHER = (0, 0, 9, 9), (12, 0, 21, 9)


def test_a_track_that_changes_its_number_once():
    """Four frames, found exactly, the number changes after two: one switch, half the association."""
    infos = one_video(*[[(5, 1, BOX)]] * 4)
    found = found_in(infos, *[(frame, 1 + frame // 2, 1, BOX) for frame in range(4)])
    values = scored(found, infos)
    assert values["id_switches_video"].value == 1
    assert values["mota_video"].value == pytest.approx(3 / 4)
    assert values["idf1_video"].value == pytest.approx(1 / 2)
    assert values["deta_video"].value == pytest.approx(1)
    assert values["assa_video"].value == pytest.approx(1 / 2)
    assert values["hota_video"].value == pytest.approx(np.sqrt(1 / 2))
    assert values["hota_video"].count == 4
    assert values["hota_video"].notes["tracks"] == 2
    results = evaluate_detections(found, infos, [IdSwitches()])
    assert not results["id_switches_clip@mot-box"].higher_is_better


def test_clips_are_sequences_of_their_own():
    infos = one_video(*[[(5, 1, BOX)]] * 2) + [
        replace(each, id="v-1", frame_indices=(2, 3)) for each in one_video(*[[(5, 1, BOX)]] * 2)
    ]
    found = found_in(infos, *[(frame, 1 + frame // 2, 1, BOX) for frame in range(4)])
    assert scored(found, infos, unit="video")["id_switches_video"].value == 1
    clips = scored(found, infos, unit="clip")
    assert (clips["id_switches_clip"].value, clips["hota_clip"].value) == (0, pytest.approx(1))


@pytest.mark.parametrize("iou_type", ["box", "mask"])
def test_the_truth_itself_scores_one(iou_type):
    rng = np.random.default_rng(2)
    infos = truth_of(rng)
    found = detections_near(infos, rng)
    truths = [frame for info in infos for frame in info.truth]
    found = replace(
        found,
        frame=np.repeat(np.arange(len(truths)), [len(each) for each in truths]),
        **{
            name: np.concatenate([getattr(each, other) for each in truths])
            for name, other in (("boxes", "boxes"), ("class_ids", "class_ids"), ("tracks", "track_ids"))
        },
        masks=tuple(counts for each in truths for counts in each.runs.counts),
        scores=np.ones(sum(map(len, truths))),
    )
    values = scored(found, infos, iou_type=iou_type)
    assert {name: values[f"{name}_video"].value for name in NAMES} == pytest.approx(dict.fromkeys(NAMES, 1))


def test_a_class_nobody_shows_costs_and_a_wrong_class_does_not_match():
    infos = one_video([(5, 1, BOX)])
    values = scored(found_in(infos, (0, 1, 2, BOX)), infos)
    assert values["mota_video"].value == -1
    assert values["mota_video"].notes["classes"] == 2
    assert values["mota_video"].notes["class_averaged"] == -0.5
    assert (
        scored(found_in(infos, (0, 1, 2, BOX)), infos, class_agnostic=True)["mota_video_agnostic"].value == 1
    )
    assert scored(found_in(infos, (0, 1, 0, BOX)), infos)["mota_video"].value == 0


def test_weak_detections_are_left_out_and_named_so():
    infos = one_video([(5, 1, BOX)])
    found = found_in(infos, (0, 1, 1, BOX), score=0.4)
    assert scored(found, infos, min_score=0.4)["deta_video_min0.4"].value == 1
    strict = scored(found, infos, min_score=0.5, iou_threshold=0.75)["deta_video_min0.5_iou75"]
    assert (strict.value, strict.notes["detections"]) == (0, 0)


def test_nothing_at_all_is_undefined():
    assert np.isnan(Tracking().compute()["hota_clip"].value)
    bare = one_video([])
    assert np.isnan(scored(found_in(bare), bare)["mota_video"].value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, -1, 1, BOX)], "has no track"),
        ([(0, 3, 1, BOX), (0, 3, 1, OTHER)], "track 3 has several detections"),
    ],
)
def test_detections_that_are_no_tracks_are_refused(rows, message):
    infos = one_video([(5, 1, BOX)])
    with pytest.raises(DataError, match=message):
        scored(found_in(infos, *rows), infos)


def test_truth_without_tracks_is_refused():
    infos = one_video([(-1, 1, BOX)])
    with pytest.raises(DataError, match="object of unknown track"):
        scored(found_in(infos, (0, 1, 1, BOX)), infos)


def test_a_threshold_out_of_range_and_a_missing_package_are_refused(monkeypatch):
    with pytest.raises(SettingError, match="iou_threshold is 0"):
        Tracking(iou_threshold=0)
    monkeypatch.setattr("ovvol_bench.errors.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r"tracking needs .* pip install 'ovvol-bench\[tracking\]'"):
        Tracking().compute()


def test_overlaps_take_the_memory_of_a_frame_not_of_all_pairs():
    """60 tracks in 100 frames are 360,000 pairs: 80 MiB at once."""
    frames, tracks = 100, 60
    boxes = np.arange(tracks)[:, None] + np.array([0, 0, 3, 3])
    flags = np.zeros(tracks, np.bool_)
    columns = (boxes.astype(np.float32), np.ones(tracks, np.int64), np.arange(tracks), flags, flags)
    truth = (FrameTruth(*columns, np.ones(tracks, np.float32)),) * frames
    table = TruthTable.of([ClipInfo("v-0", "v", tuple(range(frames)), (HEIGHT, WIDTH), truth)])
    found = Detections(
        Frames.of(table.infos),
        np.repeat(np.arange(frames), tracks),
        np.tile(columns[0], (frames, 1)),
        np.ones(frames * tracks, np.int64),
        np.ones(frames * tracks),
        np.tile(np.arange(tracks), frames),
        1,
    )
    tracemalloc.start()
    try:
        scene = Scene.of(found, table, "box", "clip", class_agnostic=False)
        assert [data["num_timesteps"] for _, _, data in scene.sequences(class_agnostic=False)] == [frames]
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()
