"""What is wrong with a file: one message with its place and how many; or left out and counted."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from formats.samples import CONTENT

from ovvol_bench.errors import DataError
from ovvol_bench.formats import coco, coco_vid, detect, mot, vid_devkit, youtube_vis
from ovvol_bench.formats.entries import Content
from ovvol_bench.masks import RleMasks

BOX = {"image_id": 10, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 0.5}


def run_lengths(height=12, width=20):
    pixels = np.zeros((1, height, width), np.bool_)
    pixels[0, 2:4, 1:3] = True
    return {"size": [height, width], "counts": RleMasks.of(pixels).counts[0].decode()}


def of_json(module, wrap=lambda entries: entries):
    def write(path, entries):
        path.write_text(json.dumps(wrap(entries)))
        return module

    return write


def of_text(module):
    def write(path, lines):
        path.write_text("\n".join(lines) + "\n")
        return module

    return write


def self_described(annotations):
    return {
        "videos": [{"id": 1, "name": "val/first"}, {"id": 2, "name": "elsewhere"}],
        "images": [{"id": 10, "video_id": 1, "frame_id": 0}, {"id": 11, "video_id": 2, "frame_id": 0}],
        "annotations": annotations,
        "categories": [{"id": 4, "name": "Domestic dog"}, {"id": 5, "name": "zebra"}],
    }


TRACK = {"video_id": 7, "category_id": 4, "score": 0.5, "segmentations": [run_lengths(), None, None]}
COCO, COCO_VID = of_json(coco), of_json(coco_vid, self_described)
YOUTUBE, DEVKIT = of_json(youtube_vis), of_text(vid_devkit)

CASES = {
    "coco frame": (COCO, [BOX, BOX | {"image_id": 99}], "entry 1: unknown frame number 99", "unknown frame"),
    "coco class": (
        COCO,
        [BOX | {"category_id": 5}],
        "unknown class 5; the dataset has 0, 4, 6",
        "unknown class",
    ),
    "coco inverted": (COCO, [BOX | {"bbox": [5, 2, -3, 4]}], "expected x1 <= x2", "inverted box"),
    "coco NaN": (COCO, [BOX | {"score": float("nan")}], "expected finite numbers", "not a number"),
    "coco NaN box": (
        COCO,
        [BOX | {"bbox": [1, 2, float("inf"), 3]}],
        "expected finite numbers",
        "not a number",
    ),
    "coco form": (
        COCO,
        [BOX, {"image_id": 10}],
        "entry 1: expected an object with image_id",
        "malformed entry",
    ),
    "coco text": (COCO, [BOX, "box"], 'found "box"', "malformed entry"),
    "coco corners": (COCO, [BOX | {"bbox": [1, 2, 3]}], "bbox [x, y, width, height]", "malformed entry"),
    "coco number": (COCO, [BOX | {"category_id": 4.5}], "category_id is 4.5; expected a", "malformed entry"),
    "coco no score": (
        COCO,
        [{**BOX, "score": None}],
        "score is nothing; expected a whole",
        "malformed entry",
    ),
    "coco mask size": (
        COCO,
        [BOX | {"segmentation": run_lengths(12, 21)}],
        "mask of 21 x 12 pixels; expected the frame's 20 x 12",
        "mask of another size",
    ),
    "coco broken mask": (
        COCO,
        [BOX | {"segmentation": {"size": [12, 20], "counts": "52203"}}],
        "don't add up to 20 x 12",
        "broken mask",
    ),
    "coco some masks": (
        COCO,
        [BOX | {"segmentation": run_lengths()}, BOX],
        "entry 1: no segmentation, though other",
        "no mask",
    ),
    "coco track": (COCO, [BOX | {"track_id": 1}] * 2, "entry 1: track 1 is in this frame", "repeated track"),
    "coco-vid video": (COCO_VID, [BOX | {"image_id": 11}], "unknown frame (image_id 11)", "unknown frame"),
    "coco-vid class": (COCO_VID, [BOX | {"category_id": 5}], "unknown class 5 ('zebra')", "unknown class"),
    "coco-vid form": (COCO_VID, [{"image_id": 10}], "annotation 0: expected an object", "malformed entry"),
    "youtube video": (YOUTUBE, [TRACK | {"video_id": 8}], "unknown video number 8", "unknown video"),
    "youtube class": (YOUTUBE, [TRACK | {"category_id": 8}], "unknown class 8", "unknown class"),
    "youtube few": (
        YOUTUBE,
        [TRACK | {"segmentations": [None]}],
        "1 segmentations; expected one for each of the video's 3 frames",
        "too few masks",
    ),
    "youtube many": (
        YOUTUBE,
        [TRACK | {"segmentations": [None, None, None, run_lengths()]}],
        "entry 0, segmentation 3: unknown frame 4 (counted from 1) of video 'val/first', which has 3",
        "unknown frame",
    ),
    "youtube size": (
        YOUTUBE,
        [TRACK | {"segmentations": [run_lengths(5, 5), None, None]}],
        "mask of 5 x 5 pixels",
        "mask of another size",
    ),
    "youtube form": (YOUTUBE, [TRACK | {"segmentations": 3}], "segmentations, a list", "malformed entry"),
    "devkit frame": (DEVKIT, ["", "99 4 0.5 1 2 3 4"], "line 2: unknown frame number 99", "unknown frame"),
    "devkit class": (DEVKIT, ["10 5 0.5 1 2 3 4"], "unknown class 5", "unknown class"),
    "devkit half": (DEVKIT, ["10.5 4 0.5 1 2 3 4"], "frame_index 10.5; expected a whole", "malformed entry"),
    "devkit inverted": (DEVKIT, ["10 4 0.5 3 2 1 4"], "box [3.0, 2.0, 1.0, 4.0]", "inverted box"),
    "devkit one inverted": (DEVKIT, ["10 4 0.5 1 2 3 4", "10 4 0.5 3 2 1 4"], "line 2: box", "inverted box"),
    "devkit NaN": (DEVKIT, ["10 4 nan 1 2 3 4"], "expected finite numbers", "not a number"),
    "devkit short": (DEVKIT, ["10 4 0.5 1 2 3 4", "10 4 0.5"], "line 2: '10 4 0.5'", "malformed entry"),
    "devkit words": (DEVKIT, ["10 cat 0.5 1 2 3 4"], "expected 7 to 7 numbers", "malformed entry"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_fault_is_named_with_its_place(tmp_path, name):
    write, entries, message, _ = CASES[name]
    path = tmp_path / "file"
    module = write(path, entries)
    with pytest.raises(DataError) as error:
        module.read(path, CONTENT)
    text = str(error.value)
    assert str(path) in text
    assert message in text
    assert "--on-error skip" in text


@pytest.mark.parametrize("name", CASES)
def test_skipped_entries_are_counted_by_reason(tmp_path, name):
    write, entries, _, reason = CASES[name]
    path = tmp_path / "file"
    found, report = write(path, entries).read(path, CONTENT, "skip")
    assert dict(report.dropped) == {reason: 1}
    assert report.entries == len([entry for entry in entries if entry])
    assert len(found) == report.detections == report.entries - 1


def test_the_number_of_such_entries_is_said(tmp_path):
    path = tmp_path / "file"
    with pytest.raises(DataError, match=r"entry 1 \(the first of 3 such entries\): unknown frame"):
        COCO(path, [BOX, *[BOX | {"image_id": 99}] * 3]).read(path, CONTENT)


@pytest.mark.parametrize("module", [coco, coco_vid, youtube_vis])
@pytest.mark.parametrize("text", ['[{"image_id": 10, "ca', "", '{"videos": []', "\ufffd"])
def test_json_that_was_cut_off(tmp_path, module, text):
    path = tmp_path / "file"
    path.write_text(text)
    for on_error in ("fail", "skip"):
        with pytest.raises(DataError, match=r"can't be read as JSON .* Was it cut off"):
            module.read(path, CONTENT, on_error)


@pytest.mark.parametrize(
    ("module", "text", "expected"),
    [
        (coco, "{}", "expected a list of detections"),
        (youtube_vis, "3", "expected a list of tracks"),
        (coco_vid, "[]", "no list 'videos'"),
        (coco_vid, '{"videos": [], "images": {}}', "no list 'images'"),
        (vid_devkit, b"\xff\xfe1 2", "can't be read as text"),
    ],
)
def test_files_of_another_kind(tmp_path, module, text, expected):
    path = tmp_path / "file"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError, match=expected):
        module.read(path, CONTENT)


def test_an_image_that_is_there_twice(tmp_path):
    path = tmp_path / "file"
    for image, reason in (({"id": 10}, "repeated image"), ({"id": 12}, "repeated frame")):
        again = self_described([BOX])
        again["images"].append({"video_id": 1, "frame_id": 0} | image)
        path.write_text(json.dumps(again))
        with pytest.raises(DataError, match=r"image 2: .*is there already"):
            coco_vid.read(path, CONTENT)
        found, report = coco_vid.read(path, CONTENT, "skip")
        assert (len(found), dict(report.dropped)) == (1, {reason: 1})


def test_two_mot_files_of_one_video(tmp_path):
    for name in ("val/first.txt", "first.txt", "second.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("1,1,1,2,3,4,0.5\n")
    with pytest.raises(DataError, match=r"val/first.txt, line 1: a second file of video 'val/first'"):
        mot.read(tmp_path, CONTENT)
    found, report = mot.read(tmp_path, CONTENT, "skip")
    assert (len(found), dict(report.dropped)) == (2, {"repeated video": 1})


def test_a_mot_file_of_no_video(tmp_path):
    for name in ("first", "second", "fourth"):
        (tmp_path / f"{name}.txt").write_text("1,1,1,2,3,4,0.5\n")
    with pytest.raises(DataError, match=r"fourth.txt, line 1: unknown video"):
        mot.read(tmp_path, CONTENT)
    found, report = mot.read(tmp_path, CONTENT, "skip")
    assert (len(found), dict(report.dropped)) == (2, {"unknown video": 1})


def test_a_video_without_a_mot_file(tmp_path):
    (tmp_path / "first.txt").write_text("1,1,1,2,3,4,0.5\n")
    with pytest.raises(DataError, match=r"no file of video 'second' \(1 of 2 videos have none\)"):
        mot.read(tmp_path, CONTENT)
    found, report = mot.read(tmp_path, CONTENT, "skip")
    assert (len(found), dict(report.dropped)) == (1, {"video without a file": 1})
    (tmp_path / "second.txt").touch()
    assert not mot.read(tmp_path, CONTENT)[1].dropped


BEYOND = BOX | {"bbox": [15, -3, 10, 8.5]}


def test_boxes_out_of_the_frame_are_kept_cut_or_refused(tmp_path):
    path = tmp_path / "file"
    for rule, box in (("keep", [15, -3, 24, 4.5]), ("clip", [15, 0, 19, 4.5])):
        found, report = COCO(path, [BOX, BEYOND]).read(path, replace(CONTENT, out_of_frame=rule))
        assert (found.boxes[1].tolist(), report.out_of_frame) == (box, 1)
    strict = replace(CONTENT, out_of_frame="refuse")
    with pytest.raises(DataError, match=r"entry 1: box .* reaches out of its frame of 20 x 12"):
        coco.read(path, strict)
    assert coco.read(path, strict, "skip")[1].dropped == {"box outside the frame": 1}


def test_a_box_of_which_cutting_leaves_nothing_is_counted(tmp_path):
    path = tmp_path / "file"
    module = COCO(path, [BOX, BOX | {"bbox": [40, 2, 3, 4]}])
    found, report = module.read(path, replace(CONTENT, out_of_frame="clip"))
    assert (len(found), report.dropped) == (1, {"box wholly outside the frame": 1})


def test_a_mot_line_is_named_with_its_file(tmp_path):
    (tmp_path / "first.txt").write_text("1,1,1,2,3,4,0.5\n")
    (tmp_path / "second.txt").write_text("1,1,1,2,3,4,0.5\n\n3,1,1,2,3,4,0.5,-1,-1,-1\n4,1,1,1\n")
    with pytest.raises(DataError, match=r"second.txt, line 4: '4,1,1,1'; expected 7 or more numbers"):
        mot.read(tmp_path, CONTENT)
    found, report = mot.read(tmp_path, CONTENT, "skip")
    assert (len(found), dict(report.dropped)) == (2, {"malformed entry": 1, "frame in no clip": 1})


def test_an_empty_folder_has_no_mot_files(tmp_path):
    with pytest.raises(DataError, match=r"expected a folder with a VIDEO\.txt"):
        mot.read(tmp_path, CONTENT)


def test_what_is_in_no_clip_is_counted_and_no_fault(tmp_path):
    path = tmp_path / "file"
    found, report = COCO(path, [BOX, BOX | {"image_id": 9}, BOX | {"image_id": 30}]).read(path, CONTENT)
    assert (len(found), dict(report.dropped)) == (1, {"frame in no clip": 2})
    found, report = YOUTUBE(path, [TRACK | {"video_id": 5}]).read(path, CONTENT)
    assert (len(found), dict(report.dropped)) == (0, {"video in no clip": 1})


def test_scores_that_are_no_probabilities_are_reported(tmp_path):
    path = tmp_path / "file"
    _, report = COCO(path, [BOX, BOX | {"score": 1.5}, BOX | {"score": -3}]).read(path, CONTENT)
    assert report.scores_outside == 2
    assert report.first_outside == f"{path}, entry 1: score 1.5"


def test_masks_come_as_numbers_or_polygons_too(tmp_path):
    path = tmp_path / "file"
    numbers = {"size": [12, 20], "counts": [14, 2, 10, 2, 212]}
    polygon = [[1, 2, 3, 2, 3, 4, 1, 4]]
    bare = {key: value for key, value in BOX.items() if key != "bbox"}
    entries = [bare | {"segmentation": each} for each in (run_lengths(), numbers, polygon)]
    found, _ = COCO(path, entries).read(path, CONTENT)
    pixels = found.masks_of(np.arange(3), (12, 20)).decode()
    assert (pixels == pixels[0]).all()
    assert found.boxes.tolist() == [[1, 2, 2, 3]] * 3


@pytest.mark.parametrize("wrong", [[[1, 2, 3, 4]], {"size": [12, 20], "counts": [3]}, {"counts": "0"}])
def test_masks_in_no_known_form(tmp_path, wrong):
    path = tmp_path / "file"
    with pytest.raises(DataError, match="entry 0: expected an object"):
        COCO(path, [BOX | {"segmentation": wrong}]).read(path, CONTENT)


def test_a_mask_without_pixels_shows_nothing(tmp_path):
    path = tmp_path / "file"
    nothing = {"size": [12, 20], "counts": [240]}
    found, report = YOUTUBE(path, [TRACK | {"segmentations": [nothing, run_lengths(), None]}]).read(
        path, CONTENT
    )
    assert found.frame.tolist() == [1]
    assert not report.dropped


@pytest.mark.parametrize("part", ["videos", "images", "categories"])
@pytest.mark.parametrize("number", [10**30, 1e300, True, "1", None])
def test_numbers_of_coco_vids_lists_are_whole(tmp_path, part, number):
    path, content = tmp_path / "file", self_described([BOX])
    content[part][1]["id"] = number
    path.write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"(video|image|category) 1: expected an object with id"):
        coco_vid.read(path, CONTENT)
    found, report = coco_vid.read(path, CONTENT, "skip")
    assert (len(found), report.dropped) == (1, {"malformed entry": 1})


def test_classes_are_known_by_name_in_coco_vid(tmp_path):
    path = tmp_path / "file"
    found, _ = COCO_VID(path, [BOX, BOX | {"category_id": -1}]).read(path, CONTENT)
    assert found.class_ids.tolist() == [2, 0]


@pytest.mark.parametrize(
    "text", ["10 4 0.5 1 2 3 4\r\n", "10\t4  0.5 1 2 3 4 ", "\n\n10 4 5e-1 1.0 2 3 4\n\n"]
)
def test_blanks_may_be_of_any_kind(tmp_path, text):
    path = tmp_path / "file"
    path.write_text(text, newline="")
    found, report = vid_devkit.read(path, CONTENT)
    assert (found.boxes.tolist(), found.scores.tolist(), report.entries) == ([[1, 2, 3, 4]], [0.5], 1)


def of_mot(folder, text, content=CONTENT):
    """A file of the first video; the second has an empty one."""
    (folder / "second.txt").touch()
    (folder / "first.txt").write_text(text)
    return mot.read(folder, content)


@pytest.mark.parametrize(
    ("line", "class_id"),
    [
        ("1,3,1,2,5,5,0.5", 0),
        ("1,3,1,2,5,5,0.5,-1,-1,-1", 0),
        ("1,3,1,2,5,5,0.5,6,0.9,-1", 2),
        ("1, 3, 1, 2, 5, 5, 0.5, 6,", 2),
        ("1.0,3.0,1,2,5,5,0.5,-1,-1,-1,0.25,0.125,0.5", 0),
        ("1 3 1 2 5 5 0.5 6 0.9 -1", 2),
        ("1\t3\t1\t2\t5\t5\t0.5\t6", 2),
        ("\n1  3 1 2 5 5 0.5\r", 0),
    ],
)
def test_mot_lines_as_programs_write_them(tmp_path, line, class_id):
    found, report = of_mot(tmp_path, f"{line}\n")
    assert found.boxes.tolist() == [[1, 2, 5, 6]]
    assert (found.class_ids.tolist(), found.scores.tolist()) == ([class_id], [0.5])
    assert (report.entries, report.unscored) == (1, 0)


@pytest.mark.parametrize("line", ["1,3,1,2,5,5,1", "1 3 1 2 5 5 1 -1 -1 -1", "1\t3\t1\t2\t5\t5\t1\t-1"])
def test_mot_lines_are_told_from_the_devkits(tmp_path, line):
    (tmp_path / "first.txt").write_text(line)
    assert detect(tmp_path / "first.txt").name == mot.NAME


def test_a_mot_confidence_of_minus_one_is_no_score(tmp_path):
    found, report = of_mot(tmp_path, "1,3,1,2,5,5,-1,-1,-1,-1\n1,4,1,2,5,5,-0.5\n")
    assert found.scores.tolist() == [1, -0.5]
    assert (report.unscored, report.scores_outside) == (1, 1)


def test_boxes_without_a_class_are_of_the_only_one(tmp_path):
    single = Content(CONTENT.frames, replace(CONTENT.ids, classes={7: 1}), ("none", "person"))
    found, _ = of_mot(tmp_path, "1,3,1,2,5,5,1,-1,-1,-1\n1,4,1,2,5,5,1,7,1\n", single)
    assert found.class_ids.tolist() == [1, 1]


def test_the_challenges_own_truth_says_which_lines_count(tmp_path):
    for video, lines in (("first", "1,3,1,2,5,5,1,6,0.4\n1,4,1,2,5,5,0,6,1\n"), ("second", "")):
        path = tmp_path / video / "gt" / "gt.txt"
        path.parent.mkdir(parents=True)
        path.write_text(lines)
    found, report = mot.read(tmp_path, CONTENT)
    assert (found.tracks.tolist(), found.scores.tolist()) == ([3], [1])
    assert sum(report.dropped.values()) == 1


@pytest.mark.parametrize(
    "entry",
    [
        BOX | {"image_id": 1e400},
        BOX | {"image_id": 10**30},
        BOX | {"image_id": "10"},
        BOX | {"score": "0.5"},
        BOX | {"score": True},
        BOX | {"bbox": [True, 2, 3, 4]},
        BOX | {"score": [0.5]},
        BOX | {"score": 10**400},
        BOX | {"bbox": ["1", "2", "3", "4"]},
        BOX | {"bbox": [[1, 2], [3, 4]]},
        BOX | {"segmentation": [[0, 0, 1e9, 0, 1e9, 1e9]]},
        BOX | {"segmentation": {"size": [2**40, 2**40], "counts": "0"}},
        BOX | {"segmentation": {"size": [12, 20], "counts": "\u20ac"}},
        BOX | {"segmentation": {"size": [12, 20], "counts": [-1, 241]}},
    ],
)
def test_hostile_numbers_and_masks_name_the_entry(tmp_path, entry):
    path = tmp_path / "file"
    with pytest.raises(DataError, match="entry 0: expected an object"):
        COCO(path, [entry]).read(path, CONTENT)


def test_an_empty_list_of_polygons_is_no_mask(tmp_path):
    path = tmp_path / "file"
    found, _ = COCO(path, [BOX | {"segmentation": []}]).read(path, CONTENT)
    assert found.masks is None
    assert len(found) == 1


def test_a_track_that_is_null_is_unknown_and_infinite_boxes_are_named(tmp_path, recwarn):
    path = tmp_path / "file"
    found, _ = COCO(path, [BOX | {"track_id": None}]).read(path, CONTENT)
    assert found.tracks.tolist() == [-1]
    for far in (1e308, 1e30):
        with pytest.raises(DataError, match=r"entry 0: box .* expected finite numbers"):
            COCO(path, [BOX | {"bbox": [far, 2, far, 4]}]).read(path, CONTENT)
    assert not [each for each in recwarn if issubclass(each.category, RuntimeWarning)]


def test_a_pipe_has_no_format_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "found.txt")
    with pytest.raises(DataError, match="Not a regular file"):
        detect(tmp_path / "found.txt")
    with pytest.raises(DataError, match="Not a regular file"):
        vid_devkit.read(tmp_path / "found.txt", CONTENT)
