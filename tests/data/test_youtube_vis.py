from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from coco_scenes import YoutubeVisEval, tracked
from pycocotools import mask as coco

from ovvol_bench.data.json_videos import BARE, YoutubeVis
from ovvol_bench.data.sampling import TOO_SHORT
from ovvol_bench.data.truth_index import CROWD, NO_AREA, UNKNOWN_CLASS, describe
from ovvol_bench.detections import Frames, in_order
from ovvol_bench.errors import DataError, DecodeError, SettingError
from ovvol_bench.formats.entries import Content
from ovvol_bench.formats.youtube_vis import read as read_results
from ovvol_bench.masks import RleMasks
from ovvol_bench.metrics.truth import TruthTable
from ovvol_bench.metrics.tube_ap import tube_values
from ovvol_bench.naming.vocabulary import youtube_vis

SIZE = (40, 60)
STEP = 5  # frames from one that is annotated to the next


def pixels(box: tuple[int, int, int, int], size: tuple[int, int] = SIZE) -> np.ndarray:
    """A filled box x1, y1, x2, y2, ends inclusive."""
    mask = np.zeros(size, np.uint8)
    x1, y1, x2, y2 = box
    mask[y1 : y2 + 1, x1 : x2 + 1] = 1
    return mask


def compressed(mask: np.ndarray) -> dict[str, Any]:
    rle = coco.encode(np.asfortranarray(mask))
    return {"size": list(mask.shape), "counts": rle["counts"].decode()}


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [1 - flat[-1]]])))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0).tolist()}


def video(number: int, name: str, length: int, step: int = STEP) -> dict[str, Any]:
    names = [f"{name}/{t * step:05d}.jpg" for t in range(length)]
    return {"id": number, "height": SIZE[0], "width": SIZE[1], "length": length, "file_names": names}


def track(number: int, video_id: int, category: int, boxes: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "video_id": video_id,
        "category_id": category,
        "iscrowd": 0,
        "segmentations": [None if box is None else compressed(pixels(box)) for box in boxes],
        "bboxes": [
            None if box is None else [box[0], box[1], box[2] - box[0] + 1, box[3] - box[1] + 1]
            for box in boxes
        ],
        **more,
    }


def content() -> dict[str, Any]:
    """Video a: 5 frames, a cat in all but the third and a dog in the first; video b: 3 frames, empty."""
    cat = [(t, 6, 20 + t, 30) if t != 2 else None for t in range(5)]
    return {
        "videos": [video(7, "a", 5), video(3, "b", 3)],
        "categories": [{"id": 11, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [track(21, 7, 2, cat), track(5, 7, 11, [(30, 0, 59, 39), *[None] * 4])],
    }


def write(root: Path, data: dict[str, Any], name: str = "train.json") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    path = root / name
    path.write_text(json.dumps(data))
    return path


def write_frames(root: Path, data: dict[str, Any]) -> None:
    for each in data["videos"]:
        for t, name in enumerate(each["file_names"]):
            file = root / "train/JPEGImages" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(file), np.full((each["height"], each["width"], 3), 10 * t, np.uint8))


def build(path: Path, **settings: Any):
    cache = (path if path.is_dir() else path.parent) / "cache"
    return YoutubeVis(path=path, **{"frames_per_clip": 2, "short_side": 32, "cache": str(cache), **settings})


def test_boxes_masks_tracks_and_classes_by_frame(tmp_path):
    dataset = build(write(tmp_path, content()))
    infos = [dataset.info(i) for i in range(len(dataset))]
    assert [info.id for info in infos] == ["a/000000", "a/000002", "a/000003", "b/000000", "b/000001"]
    assert (infos[0].frame_size, infos[2].context) == (SIZE, 1)
    first, second = infos[0].truth
    assert dataset.vocabulary.names[1:] == ("dog", "cat")
    assert first.track_ids.tolist() == [21, 5]
    assert first.class_ids.tolist() == [2, 1]
    assert first.boxes.tolist() == [[0, 6, 20, 30], [30, 0, 59, 39]]
    assert np.array_equal(first.pixels, np.stack([pixels((0, 6, 20, 30)), pixels((30, 0, 59, 39))]) > 0)
    assert isinstance(second.masks, RleMasks)
    assert second.masks.boxes().tolist() == second.boxes.tolist() == [[1, 6, 21, 30]]
    assert [len(frame) for info in infos for frame in info.truth] == [2, 1, 0, 1, 1, 1, 0, 0, 0, 0]
    assert not first.generated.any() and not first.occluded.any()
    assert dataset.skipped == {}


def test_annotations_without_box_and_mask_are_counted_in_the_videos_that_are_read(tmp_path):
    data = content()
    bare = track(30, 7, 2, [None] * 5)
    data["annotations"] += [bare, {**bare, "id": 31, "bboxes": None, "segmentations": [[]] * 5}]
    path = write(tmp_path, data)
    assert build(path).skipped == {BARE: 2}
    assert build(path, masks=False, frames_per_clip=3).skipped[BARE] == 2
    (tmp_path / "b.txt").write_text("b\n")
    assert build(path, split=str(tmp_path / "b.txt")).skipped == {}


def test_motion_is_known_where_frames_follow_each_other(tmp_path):
    sparse = build(write(tmp_path / "sparse", content()))
    assert np.isnan(sparse.index.motion_iou).all()
    dense = content()
    dense["videos"] = [video(7, "a", 5, step=1), video(3, "b", 3)]
    motion = build(write(tmp_path / "dense", dense)).info(0).truth[0].motion_iou
    assert 0.7 < motion[0] < 1 and np.isnan(motion[1])


def test_polygons_and_uncompressed_runs_are_the_same_masks(tmp_path):
    data = content()
    polygon = [[0, 6, 21, 6, 21, 31, 0, 31]]
    data["annotations"][0]["segmentations"][0] = polygon
    data["annotations"][0]["segmentations"][1] = uncompressed(pixels((1, 6, 21, 30)))
    truth = build(write(tmp_path, data)).info(0).truth
    expected = build(write(tmp_path / "other", content())).info(0).truth
    for one, other in zip(truth, expected, strict=True):
        assert np.array_equal(one.pixels, other.pixels)


def test_a_box_that_is_missing_is_its_masks(tmp_path):
    data = content()
    for annotation in data["annotations"]:
        del annotation["bboxes"]
    assert np.array_equal(
        build(write(tmp_path, data)).index.boxes, build(write(tmp_path / "o", content())).index.boxes
    )


def test_boxes_can_be_read_without_masks(tmp_path):
    dataset = build(write(tmp_path, content()), masks=False)
    assert dataset.info(0).truth[0].masks is None
    assert dataset.info(0).truth[0].boxes.tolist() == [[0, 6, 20, 30], [30, 0, 59, 39]]


def test_what_is_left_out_is_counted(tmp_path):
    data = content()
    data["annotations"].append(track(30, 7, 2, [(1, 1, 4, 4)] * 5, iscrowd=1))
    data["annotations"].append(track(31, 3, 2, [(0, 0, -1, -1), None, None]))
    dataset = build(write(tmp_path, data), vocabulary="youtube-vis-2021", frames_per_clip=4)
    assert dataset.skipped == {CROWD: 5, NO_AREA: 1, TOO_SHORT: 1}
    words = tmp_path / "words.yaml"
    words.write_text("classes: [{name: animal, synonyms: [Cat]}]\n")
    dataset = build(write(tmp_path, data), vocabulary=str(words), split="all")
    assert dataset.skipped[UNKNOWN_CLASS] == 1
    assert set(dataset.index.class_ids.tolist()) == {1}
    assert dataset.file_ids().classes == {2: 1}


def test_class_ids_go_by_name_and_the_years_bring_their_vocabulary(tmp_path):
    data = content()
    names = [item.name for item in youtube_vis(2019).classes]
    data["categories"] = [{"id": 100 + i, "name": name} for i, name in enumerate(reversed(names))]
    numbers = {item["name"]: item["id"] for item in data["categories"]}
    data["annotations"][0]["category_id"] = numbers["cat"]
    data["annotations"][1]["category_id"] = numbers["dog"]
    dataset = build(write(tmp_path, data))
    assert dataset.vocabulary == youtube_vis(2019)
    own = dataset.vocabulary.names
    assert [own[i] for i in dataset.info(0).truth[0].class_ids] == ["cat", "dog"]
    assert dataset.file_ids().classes[numbers["cat"]] == own.index("cat")
    other = build(tmp_path / "train.json", vocabulary="youtube-vis-2021")
    assert [other.vocabulary.names[i] for i in other.info(0).truth[0].class_ids] == ["cat", "dog"]


def test_numbers_of_the_file_are_kept_for_results(tmp_path):
    ids = build(write(tmp_path, content())).file_ids()
    assert (ids.videos, ids.frames, ids.classes) == ({7: "a", 3: "b"}, {}, {11: 1, 2: 2})


def test_folders_of_both_years_are_found_with_their_frames(tmp_path):
    for year, name in (("2019", "train.json"), ("2021", "train/instances.json")):
        root = tmp_path / year
        (root / "train").mkdir(parents=True)
        write(root, content(), name)
        write_frames(root, content())
        clip = build(root).clip(1)
        assert clip.frames.shape == (2, 32, 48, 3)
        assert np.allclose(clip.frames.mean((1, 2, 3)) * 255, [20, 30], atol=1)
    with pytest.raises(DataError, match=r"holds none of train/instances\.json, train\.json"):
        build(tmp_path)


def test_training_reads_all_frames(tmp_path):
    write_frames(tmp_path, content())
    videos = build(write(tmp_path, content())).training_videos()
    assert [(videos.name(i), videos.length(i)) for i in range(len(videos))] == [("a", 5), ("b", 3)]
    assert videos.frames(0, [1, 4]).mean((1, 2, 3)).round().tolist() == [10, 40]


def test_missing_frames_are_told_when_frames_are_read(tmp_path):
    path = write(tmp_path, content())
    dataset = build(path)
    assert len(dataset.info(0).truth) == 2, "scoring needs no frames"
    with pytest.raises(DataError, match=r"8 of 8 frames are missing under .*JPEGImages, first: .*a/00000"):
        dataset.clip(0)
    write_frames(tmp_path, content())
    (tmp_path / "train/JPEGImages/b/00005.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 8 frames are missing .*b/00005\.jpg"):
        build(path).clip(0)
    cv2.imwrite(str(tmp_path / "train/JPEGImages/b/00005.jpg"), np.zeros((41, 60, 3), np.uint8))
    dataset = build(path)
    with pytest.raises(DecodeError, match=r"41 x 60 pixels"):
        dataset.clip(len(dataset) - 1)


def test_named_splits(tmp_path):
    videos = [video(i, f"v{i:03d}", 2) for i in range(303)]
    data = {**content(), "videos": videos, "annotations": [track(1, 302, 2, [(1, 1, 4, 4)] * 2)]}
    path = write(tmp_path, data)
    names = {
        split: build(path, split=split).index.videos.tolist()
        for split in ("all", "videosaur-train", "videosaur-val", "videocutler")
    }
    assert names["videosaur-train"] == ["v000", "v001", "v002"]
    assert names["videosaur-train"] + names["videosaur-val"] == names["all"] == names["videocutler"]
    classless = build(path, split="videocutler")
    assert classless.vocabulary.names[1:] == ("object",)
    assert classless.info(302).truth[0].class_ids.tolist() == [1]
    val = build(path, split="videosaur-val")
    assert val.info(299).truth[0].track_ids.tolist() == [1]
    assert set(val.file_ids().videos) == set(range(3, 303))
    with pytest.raises(SettingError, match="is without classes"):
        build(path, split="videocutler", vocabulary="youtube-vis-2019")
    with pytest.raises(SettingError, match=r"'videosaur' is unknown\. Did you mean 'videosaur-val'"):
        build(path, split="videosaur")
    with pytest.raises(DataError, match="split 'videosaur-val' is empty; the file has 2 videos"):
        build(write(tmp_path / "small", content()), split="videosaur-val")


def test_a_list_of_videos_is_a_split(tmp_path):
    path, names = write(tmp_path, content()), tmp_path / "names.txt"
    names.write_text("b\na\n\n")
    dataset = build(path, split=str(names))
    assert dataset.index.videos.tolist() == ["b", "a"]
    assert [dataset.info(i).id for i in range(3)] == ["b/000000", "b/000001", "a/000000"]
    assert dataset.info(2).truth[0].pixels.any()
    for text, message in (
        ("a\nc\n", r"line 2: 'c' is no video"),
        ("a\na\n", r"line 2: 'a' is there twice"),
        ("\n", "is empty: expected a video's name"),
    ):
        names.write_text(text)
        with pytest.raises(DataError, match=message):
            build(path, split=str(names))


def test_description_has_counts_and_a_hash_of_the_list(tmp_path):
    dataset = build(write(tmp_path, content()))
    told = describe(dataset.index, dataset.vocabulary)
    assert (told["videos"], told["frames"], told["objects"], told["tracks"]) == (2, 8, 5, 2)
    assert told["objects with a mask"] == 5
    part = build(write(tmp_path, content()), split=str(write_list(tmp_path, "a")))
    assert describe(part.index, part.vocabulary)["hash of the list"] != told["hash of the list"]


def write_list(root: Path, *names: str) -> Path:
    path = root / "list.txt"
    path.write_text("\n".join(names))
    return path


def test_the_fingerprint_is_of_content_and_the_cache_follows_the_file(tmp_path):
    path = write(tmp_path / "one", content())
    before = build(path).fingerprint()
    assert build(path).fingerprint() == before, "from the cache"
    assert build(write(tmp_path / "two", content())).fingerprint() == before
    data = content()
    data["annotations"][0]["segmentations"][0] = compressed(pixels((0, 6, 20, 29)))
    write(tmp_path / "one", data)
    assert build(path).fingerprint() != before


def test_files_without_annotations_have_no_truth(tmp_path):
    data = content()
    data["annotations"] = None
    dataset = build(write(tmp_path, data))
    assert dataset.info(0).truth is None


def test_folders_that_are_not_one_a_video_give_way_to_numbers(tmp_path):
    data = content()
    for each in data["videos"]:
        each["file_names"] = [f"{each['id']}-{t:05d}.jpg" for t in range(each["length"])]
    assert build(write(tmp_path, data)).index.videos.tolist() == ["7", "3"]


def changed(*keys: Any, value: Any) -> dict[str, Any]:
    data: Any = content()
    part = data
    for key in keys[:-1]:
        part = part[key]
    if value is KeyError:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value
    return data


CUT = {"size": list(SIZE), "counts": compressed(pixels((0, 6, 20, 30)))["counts"][:-4]}
FIRST = ("annotations", 0)
SEGMENTATION = (*FIRST, "segmentations", 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (changed(*FIRST, "video_id", value=8), r"annotations\[0\] \(id 21\): video_id 8 is none of the ids"),
        (changed(*FIRST, "category_id", value=3), r"annotations\[0\] \(id 21\): category_id 3 is none"),
        (changed(*FIRST, "category_id", value="2"), r'category_id is "2"; expected a whole number'),
        (changed(*FIRST, "id", value=5), r"annotations\[1\] \(id 5\): the id 5 is used twice"),
        (changed("videos", 0, "id", value=3), r"videos\[1\] \(id 3\): the id 3 is used twice"),
        (changed("categories", 0, "name", value="cat"), r'categories\[1\] \(id 2\): the name "cat" is used'),
        (changed("videos", 0, "length", value=6), r"videos\[0\] \(id 7\): length is 6, but file_names has 5"),
        (changed("videos", 0, "file_names", value=[]), r"videos\[0\] \(id 7\): file_names is empty"),
        (changed("videos", 0, "width", value=KeyError), r"videos\[0\] \(id 7\): width is missing; expected"),
        (changed(*FIRST, "segmentations", value=[None]), r"segmentations has 1 items; expected 5"),
        (changed(*FIRST, "bboxes", value=[None]), r"bboxes has 1 items; expected 5"),
        (
            changed(*FIRST, "bboxes", 0, value=[1, 2, -3, 4]),
            r"bboxes\[0\] is \[1, 2, -3, 4\]; expected finite",
        ),
        (changed(*FIRST, "bboxes", 0, value=[1, 2, 3]), r"expected \[x, y, width, height\]"),
        (
            changed(*SEGMENTATION, value=compressed(pixels((0, 0, 3, 3), (60, 40)))),
            r"is of size \[60, 40\]; exp",
        ),
        (
            changed(*SEGMENTATION, value={"size": list(SIZE), "counts": [5, 6]}),
            "has counts of 11 pixels in all",
        ),
        (changed(*SEGMENTATION, value={"size": list(SIZE), "counts": "a b"}), "run lengths don't add up"),
        (changed(*SEGMENTATION, value=[[1, 2, 3, 4]]), "a polygon that is no list of at least 3 points"),
        (changed(*SEGMENTATION, value=CUT), r"annotations\[0\] \(id 21\): a mask's run lengths don't add up"),
        (changed(*SEGMENTATION, value=None), r"annotations\[0\] \(id 21\): an object has a box but no mask"),
        (
            changed("videos", value=KeyError),
            r"'videos' is nothing; expected a list. The file has: annotations",
        ),
        ({**content(), "videos": [], "annotations": []}, "there is no video with a frame"),
        (changed("annotations", 1, value=4), r"annotations\[1\] is 4; expected fields"),
    ],
)
def test_mistakes_name_file_and_entry(tmp_path, data, message):
    with pytest.raises(DataError, match=r"train\.json: .*" + message):
        build(write(tmp_path, data))


def test_files_that_are_no_json(tmp_path):
    path = write(tmp_path, content())
    path.write_text(path.read_text()[:-40])
    with pytest.raises(DataError, match=r"train\.json: can't be read as JSON .* Was it cut off"):
        build(path)
    path.write_text("[]")
    with pytest.raises(DataError, match=r"the top level is \[\]; expected fields"):
        build(path)
    with pytest.raises(DataError, match=r"missing\.json can't be read"):
        build(tmp_path / "missing.json")


def test_tubes_with_crowds_areas_and_empty_tracks_as_youtube_vis_scores_them(tmp_path):
    truth, found = tracked()
    (tmp_path / "found.json").write_text(json.dumps(found))
    path = write(tmp_path, truth)
    dataset = YoutubeVis(path=path, frames_per_clip=3, cache=str(tmp_path / "cache"))
    infos = [dataset.info(index) for index in range(len(dataset))]
    content = Content(Frames.of(infos), dataset.file_ids(), dataset.vocabulary.names)
    detections, _ = read_results(tmp_path / "found.json", content)
    values = tube_values(detections, TruthTable.of(in_order(infos)), "mask", "video")
    expected = YoutubeVisEval(truth, found)
    assert any(each["iscrowd"] for each in truth["annotations"])
    assert 0.1 < expected.stats[0] < 0.9
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
    ours = [values[f"tube_{name}_video"].value for name in names]
    known = [np.nan if each < 0 else each for each in expected.stats[:9].tolist()]
    assert ours == pytest.approx(known, abs=1e-12, nan_ok=True)
