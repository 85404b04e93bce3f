"""Pictures of a result: what is drawn is what its JSON says."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from column_scenes import random_columns, scene
from PIL import Image

from ovvol_bench.errors import DataError, SettingError
from ovvol_bench.files import json_ready
from ovvol_bench.metrics.detrate import DetectionRateBy
from ovvol_bench.metrics.errors import Errors
from ovvol_bench.metrics.naming import Confusion
from ovvol_bench.metrics.pr_curves import PrecisionCurves
from ovvol_bench.report.error_charts import CAUSES, causes_chart, gains_chart, rates_chart
from ovvol_bench.report.name_charts import confusion_chart, curves_chart
from ovvol_bench.report.pictures import subject, write_pictures
from ovvol_bench.results.schema import COMPONENTS, MethodRecord, PartRecord, Record

A, B, FAR = (10, 10, 29, 29), (30, 10, 49, 29), (100, 10, 119, 29)
NAMES = ("ant", "bee", "cat")


def scores_of(columns, *metrics):
    """The ``metrics`` object of a result, as it is read from a file."""
    values = {
        f"{name}@{metric.protocol}": asdict(value)
        for metric in metrics
        for name, value in metric.score(columns).items()
    }
    return json.loads(json.dumps(json_ready(values)))


@pytest.fixture
def columns():
    boxes = [(A, 1, 0.9), ((30, 10, 37, 29), 2, 0.8), (FAR, 3, 0.3)]
    found = scene(boxes, [(A, 1), (B, 2), ((60, 60, 79, 79), 1)])
    return replace(found, truth=replace(found.truth, motion=np.full(3, 0.5, np.float32)))


def result_of(columns, iou_threshold=0.5, **errors):
    protocol = columns.protocol.name
    metrics = scores_of(
        columns,
        Errors(protocol=protocol, iou_threshold=iou_threshold, class_names=NAMES, **errors),
        Confusion(protocol=protocol, iou_threshold=iou_threshold, class_names=NAMES),
        PrecisionCurves(protocol=protocol, iou_threshold=iou_threshold, class_names=NAMES),
        DetectionRateBy(protocol=protocol, iou_threshold=iou_threshold),
    )
    coverage = {"clips": 3, "done": 2, "frames": 1500}
    data = {"name": "shapes", "options": {"split": "val"}, "fingerprint": ""}
    fixed = {"schema": 1, "status": "done", "id": "x", "dataset": data, "coverage": coverage}
    return Record.model_validate({**fixed, "metrics": metrics})


def notes(columns, number):
    return result_of(columns).metrics[f"{number}@{columns.protocol.name}"].notes


def test_every_kind_of_picture_is_written(columns, tmp_path):
    paths = write_pictures(result_of(columns), tmp_path / "pictures")
    kinds = ("errors", "gains", "confusion", "curves", "rates")
    assert [path.name for path in paths] == [f"{kind}@vid-devkit.png" for kind in kinds]
    assert sorted(path.name for path in (tmp_path / "pictures").iterdir()) == sorted(
        path.name for path in paths
    )
    for path in paths:
        with Image.open(path) as picture:
            assert picture.width == 990
            assert np.asarray(picture.convert("L")).std() > 10


def test_other_thresholds_have_their_own_files_and_gains_may_be_missing(columns, tmp_path):
    result = result_of(columns, 0.75, gains=False)
    names = {path.name for path in write_pictures(result, tmp_path)}
    assert names == {f"{kind}_75@vid-devkit.png" for kind in ("errors", "confusion", "curves", "rates")}


@pytest.mark.parametrize("protocol", ["vid-reference", "vid-devkit"])
@pytest.mark.parametrize("seed", range(6))
def test_any_result_can_be_drawn(protocol, seed, tmp_path):
    result = result_of(random_columns(seed, protocol))
    if any(score.count for score in result.metrics.values()):
        assert write_pictures(result, tmp_path)


def test_a_result_without_data_is_refused(columns, tmp_path):
    with pytest.raises(DataError, match="errors, confusion, pr_curves, detrate_by"):
        write_pictures(result_of(columns).model_copy(update={"metrics": {}}), tmp_path)
    with pytest.raises(DataError, match="eval --pictures"):
        write_pictures(result_of(scene([], [])), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_is_named(columns, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingError, match="file"):
        write_pictures(result_of(columns), tmp_path / "file")


def test_the_subject_says_what_was_scored_and_how(columns):
    result = result_of(columns)
    dots = "   ·   "
    assert subject(result, "vid-devkit") == dots.join(["shapes val", "vid-devkit", "2 clips, 1,500 frames"])
    run = result.model_copy(update={part: PartRecord(name=part[0]) for part in COMPONENTS})
    assert subject(run, "vid-devkit").endswith(f"{dots}e + g + l")
    outside = result.model_copy(update={"method": MethodRecord(name="boxes")})
    assert subject(outside, "vid-devkit").endswith(f"{dots}boxes")


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_bars_of_causes_are_whole(columns):
    figure = causes_chart(notes(columns, "right_objects"), notes(columns, "right_boxes"), "subject")
    (axes,) = figure.axes
    rows = {}
    for bar in axes.patches:
        rows.setdefault(round(bar.get_y() + bar.get_height() / 2), []).append(bar.get_width())
    assert [sum(widths) for widths in rows.values()] == pytest.approx([100, 0, 100])  # no track is known
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "objects\nn = 3",
        "tracks\n(most frames)\nn = 0",
        "boxes\nn = 3",
    ]
    assert texts(axes) == ["33"] * 6
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words == [CAUSES["right"][0], CAUSES["part"][0], "object missed / background named"]


def test_gains_are_drawn_in_points(columns):
    own = notes(columns, "right_objects")
    figure = gains_chart(own, "subject")
    panels = {axes.get_title(loc="left").split("\n")[0]: axes for axes in figure.axes}
    causes = [cause for cause in own["gains"] if cause != "now"]
    widths = [bar.get_width() for bar in panels["DetRate"].patches]
    assert dict(zip(causes, widths, strict=True)) == pytest.approx(
        {cause: 100 * own["gains"][cause]["detrate"] for cause in causes}
    )
    assert "+33.3" in texts(panels["DetRate"])


def test_the_matrix_is_drawn_by_row_with_its_numbers():
    boxes = [(A, 1), (B, 2), (FAR, 2)]
    own = notes(scene(boxes, [(A, 1), (B, 1), (FAR, 2)]), "naming_balanced")
    (axes,) = confusion_chart({**own, "held_out": [2]}, "subject").axes
    (image,) = axes.images
    assert image.get_array().tolist() == [[50, 50], [0, 100]]
    assert sorted(texts(axes)) == ["100", "50", "50"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ant  2 of 2", "bee *  1 of 1"]


def test_large_matrices_have_no_numbers_in_them():
    own = {
        "rows": {str(each): {str(each): 1} for each in range(1, 41)},
        "sought": {str(each): 2 for each in range(1, 41)},
        "class_names": {},
        "held_out": [],
    }
    (axes,) = confusion_chart(own, "subject").axes
    assert not axes.texts
    assert axes.get_xticklabels()[39].get_text() == "class 40"


def test_curves_come_best_first_behind_their_mean(columns):
    own = notes(columns, "pr_curves")
    figure = curves_chart(own, "subject")
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.axison]
    assert titles[0].startswith("mean of classes\nAP ")
    assert [title.split("\n")[0] for title in titles[1:]] == ["ant", "bee"]
    mean, curve = (line.get_ydata() for line in figure.axes[1].lines)
    assert curve[:51] == pytest.approx(100)
    assert curve[52:] == pytest.approx(0)
    assert mean[:51] == pytest.approx(50)


def test_classes_without_a_panel_are_counted():
    own = {"per_class": {str(each): {"ap": each / 100, "precision": [each / 100]} for each in range(1, 51)}}
    figure = curves_chart(own, "subject")
    assert len([axes for axes in figure.axes if axes.axison]) == 42
    assert any("9 classes of lower AP not shown" in text.get_text() for text in figure.texts)


def test_sizes_and_speeds_without_objects_have_no_bars(columns):
    figure = rates_chart(notes(columns, "detrate_by_size"), notes(columns, "detrate_by_motion"), "subject")
    for axes, name in zip(figure.axes, ("unknown", "fast"), strict=True):
        assert [label.get_text() for label in axes.get_xticklabels()] == [f"{name}\nn = 3"]
        assert [bar.get_height() for bar in axes.patches] == pytest.approx([100 / 3, 100])


def test_a_matrix_of_thousands_of_names_shows_those_of_most_objects():
    names = {str(each): f"class {each}" for each in range(1, 3001)}
    rows = {each: {each: int(each), str(int(each) % 3000 + 1): 1} for each in names}
    notes = {"rows": rows, "sought": dict.fromkeys(names, 4000), "class_names": names, "held_out": []}
    figure = confusion_chart(notes, "subject")
    (axes,) = figure.axes
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == 60
    assert labels[-1].startswith("class 3000")
    assert any("2940 with fewer objects not shown" in text.get_text() for text in figure.texts)
