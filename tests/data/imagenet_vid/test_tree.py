from __future__ import annotations

import pytest

from ovvol_bench.data.imagenet_vid.dataset import find_frames
from ovvol_bench.data.imagenet_vid.tree import find_tree, read_videos
from ovvol_bench.errors import DataError


@pytest.fixture
def root(tmp_path):
    """Videos a (4 frames) and b (2 frames), without annotations."""
    for name, count in (("a", 4), ("b", 2)):
        folder = tmp_path / "Data/VID/val" / name
        folder.mkdir(parents=True)
        for i in range(count):
            (folder / f"{i:06d}.JPEG").touch()
    (tmp_path / "ImageSets/VID").mkdir(parents=True)
    return tmp_path


def listed(root, text: str):
    path = root / "list.txt"
    path.write_text(text)
    found = read_videos(find_tree(root, "val"), path)
    return found.layout, [(video.name, video.numbers) for video in found.videos]


BOTH = [("val/a", (0, 1, 2, 3)), ("val/b", (0, 1))]


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("videos", "val/a 1 0 4\nval/b 5 0 2\n"),
        ("frames", "val/a 1 0 4\nval/a 1 1 4\nval/a 1 2 4\nval/a 1 3 4\nval/b 2 0 2\nval/b 2 1 2"),
        ("images", "a/000000 1\na/000001 2\na/000002 3\na/000003 4\n\nb/000000 5\nb/000001 6\n"),
        ("images", "val/a/000000\nval/a/000001\nval/a/000002\nval/a/000003\nval/b/000000\nval/b/000001\n"),
    ],
)
def test_layouts_are_told_apart(root, layout, text):
    assert listed(root, text) == (layout, BOTH)


def test_a_list_as_windows_programs_write_it(root):
    assert listed(root, "\ufeffval\\a 1 0 4\r\nval\\b 5 0 2\r\n") == ("videos", BOTH)


def test_folder_lists_ask_for_whole_folders(root):
    assert listed(root, "b 1\na -1\n") == ("folders", [("val/b", None), ("val/a", None)])


def test_a_video_list_may_start_late_and_leave_videos_out(root):
    assert listed(root, "val/a 1 1 2\n") == ("videos", [("val/a", (1, 2))])


def test_without_a_list_the_standard_one_counts_then_all_folders(root):
    tree = find_tree(root, "val")
    assert [video.name for video in read_videos(tree).videos] == ["val/a", "val/b"]
    assert read_videos(tree).layout == "none"
    (tree.lists / "val.txt").write_text("b/000001 2\n")
    assert [(video.name, video.numbers) for video in read_videos(tree).videos] == [("val/b", (1,))]


def test_train_videos_lie_one_level_deeper(root):
    deep = root / "Data/VID/train/part0/x"
    deep.mkdir(parents=True)
    (deep / "000000.JPEG").touch()
    videos = find_frames(find_tree(root, "train"), read_videos(find_tree(root, "train")).videos)
    assert [(video.name, video.numbers.tolist()) for video in videos] == [("train/part0/x", [0])]


@pytest.mark.parametrize("path", ["../val/a", "val/../../a", "/etc"])
@pytest.mark.parametrize("columns", ["", " 1", " 1 0 4"])
def test_a_line_that_points_outside_the_tree_is_refused(root, path, columns):
    with pytest.raises(DataError, match=r"list\.txt, line 2 points outside the dataset"):
        listed(root, f"val/a{columns}\n{path}{columns}\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("val/a 1 0 4\na/000000 1\n", "mixes lines of"),
        ("val/a 1 0\n", "line 1 has an unknown layout"),
        ("val/a one 0 4\n", "line 1 has an unknown layout"),
        ("\n \n", "is empty"),
        ("val/a 1 0 4\nval/a 1 0 4\n", "a frame of the video 'val/a' twice"),
        ("a\na\n", "the video 'a' 2 times"),
        ("val/a 1 0 0\n", "'val/a' with 0 frames"),
    ],
)
def test_malformed_lists_are_refused(root, text, message):
    with pytest.raises(DataError, match=message):
        listed(root, text)


def test_a_missing_list_is_named(root):
    with pytest.raises(DataError, match=r"nowhere\.txt can't be read"):
        read_videos(find_tree(root, "val"), root / "nowhere.txt")


@pytest.mark.parametrize(
    "inner", ["Data/VID/val", "Data/val", "ILSVRC/Data/VID/val", "ILSVRC2015/Data/VID/val"]
)
def test_trees_are_found_where_the_archives_put_them(tmp_path, inner):
    (tmp_path / inner).mkdir(parents=True)
    assert find_tree(tmp_path, "val").frames / "val" == tmp_path / inner


def test_no_tree_is_an_error_that_says_what_was_expected(tmp_path):
    with pytest.raises(
        DataError, match=r"no ImageNet-VID tree with a split 'val': expected the folder .*Data/VID/val"
    ):
        find_tree(tmp_path, "val")


def test_missing_frames_are_counted_and_the_first_named(root):
    (root / "Data/VID/val/a/000002.JPEG").unlink()
    tree = find_tree(root, "val")
    path = root / "list.txt"
    path.write_text("val/a 1 0 4\nval/c 5 0 3\n")
    with pytest.raises(
        DataError, match=r"4 frames are missing under .*val, first: .*a/000002\.JPEG, .*c/000000"
    ):
        find_frames(tree, read_videos(tree, path).videos)


def test_listed_folders_without_frames_and_empty_trees_are_errors(root):
    tree = find_tree(root, "val")
    (root / "Data/VID/val/empty").mkdir()
    path = root / "list.txt"
    path.write_text("empty\n")
    with pytest.raises(DataError, match=r"1 frames are missing .*empty/000000\.JPEG"):
        find_frames(tree, read_videos(tree, path).videos)
    (root / "Data/VID/test").mkdir()
    with pytest.raises(DataError, match="test has no videos"):
        find_frames(find_tree(root, "test"), read_videos(find_tree(root, "test")).videos)
