"""Vocabularies: built-in ones, the YAML schema, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovvol_bench.errors import DataError, UnknownNameError
from ovvol_bench.naming.vocabulary import (
    ForegroundClass,
    Vocabulary,
    builtin_vocabularies,
    imagenet_vid,
    load_vocabulary,
    parse_vocabulary,
    spoken,
    youtube_vis,
)


def write_vocabulary(folder: Path, text: str) -> Path:
    path = folder / "farm.yaml"
    path.write_text(text)
    return path


def test_imagenet_vid_is_in_the_order_of_the_devkit() -> None:
    vocabulary = imagenet_vid()
    assert len(vocabulary.classes) == 30
    assert len(vocabulary.background) == 86
    assert vocabulary.names[:2] == ("__background__", "airplane")
    assert vocabulary.names[30] == "zebra"
    assert vocabulary.id_of_code["n02691156"] == 1
    assert vocabulary.id_of_code["n02391049"] == 30
    assert len(vocabulary.id_of_code) == 30


@pytest.mark.parametrize(
    ("year", "first", "last"), [(2019, "person", "tennis_racket"), (2021, "airplane", "zebra")]
)
def test_youtube_vis_has_forty_classes(year, first, last) -> None:
    vocabulary = youtube_vis(year)
    assert len(vocabulary.classes) == 40
    assert (vocabulary.names[1], vocabulary.names[40]) == (first, last)


@pytest.mark.parametrize("name", builtin_vocabularies())
def test_built_in_vocabularies_lose_nothing_on_loading(name) -> None:
    assert load_vocabulary(name).dropped == {}
    assert load_vocabulary(name).name == name


def test_a_users_file_is_read_whole(tmp_path) -> None:
    (tmp_path / "words.txt").write_text("# places\ngrass\n\n  sky \n")
    path = write_vocabulary(
        tmp_path,
        """
        classes:
          - cow
          - {name: sheep, code: s1, synonyms: [lamb], held_out: true}
        background: words.txt
        templates: ["a %s", "many of %s"]
        """,
    )
    assert load_vocabulary(path) == Vocabulary(
        name="farm",
        classes=(ForegroundClass("cow"), ForegroundClass("sheep", ("lamb",), "s1", held_out=True)),
        background=("grass", "sky"),
        templates=("a %s", "many of %s"),
    )


def test_redundant_words_are_dropped_and_counted() -> None:
    vocabulary = parse_vocabulary(
        {
            "classes": [{"name": "giant_panda", "synonyms": ["Giant panda", "panda", "Panda"]}],
            "background": ["sky", "PANDA", "Sky", "grass"],
        }
    )
    assert vocabulary.classes[0].synonyms == ("panda",)
    assert vocabulary.background == ("sky", "grass")
    assert vocabulary.dropped == {
        "repeated synonyms": 2,
        "repeated background words": 1,
        "background words that name a class": 1,
    }


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "top level: expected fields with names, got list"),
        ({"classes": []}, "classes: expected at least one class"),
        ({}, "classes: expected at least one class"),
        ({"classes": "cow"}, "classes: expected a list, got text"),
        ({"classes": [3]}, r"classes\[0\]: expected fields"),
        ({"classes": [{"code": "x"}]}, r"classes\[0\].name: missing"),
        (
            {"classes": ["cow", {"name": True}]},
            r"classes\[1\].name: expected text, got bool True; put it in quotes",
        ),
        ({"classes": [" "]}, r"classes\[0\].name: expected text, got an empty one"),
        ({"classes": ["cow", "Cow"]}, r"classes\[1\]: 'Cow' has the name 'cow', which is taken by 'cow'"),
        ({"classes": ["cow", {"name": "ox", "synonyms": ["cow"]}]}, "'ox' has the name 'cow'"),
        ({"classes": ["__background__"]}, "'background', which is taken by '__background__'"),
        ({"classes": [{"name": "a", "code": "x"}, {"name": "b", "code": "x"}]}, "code 'x' is taken by 'a'"),
        ({"classes": [{"name": "a", "held_out": "no"}]}, "held_out: expected true or false, got 'no'"),
        ({"classes": [{"name": "a", "synonym": ["b"]}]}, "unknown field 'synonym'. Did you mean 'synonyms'"),
        ({"classes": [{"name": "a", "synonyms": "b"}]}, "synonyms: expected a list, got text"),
        ({"classes": ["a"], "templates": ["a photo"]}, "templates: expected exactly one %s"),
        ({"classes": ["a"], "templates": ["%s %s"]}, "templates: expected exactly one %s"),
        ({"classes": ["a"], "templates": []}, "templates: expected at least one template"),
        ({"classes": ["a"], "background": [1]}, r"background\[0\]: expected text, got int 1"),
        ({"classes": ["a"], "background": "coco"}, "no word list 'coco' .* Built in: coco-stuff"),
        ({"classes": ["a"], "name": 2019}, "name: expected text, got int 2019"),
        ({"classes": ["a", "b\0c"]}, r"classes\[1\]\.name: 'b\\x00c' holds control characters; expected"),
        ({"classes": [{"name": "a", "synonyms": ["b", "c\x1b[2J"]}]}, r"classes\[0\]\.synonyms\[1\]: 'c"),
        ({"classes": [{"name": "a", "code": "n\n1"}]}, r"classes\[0\]\.code: 'n\\n1' holds control"),
        ({"classes": ["a"], "background": ["sky\ud800"]}, r"background\[0\]: 'sky\\ud800' holds control"),
        ({"classes": ["a"], "templates": ["a\t%s"]}, r"templates\[0\]: 'a\\t%s' holds control"),
    ],
)
def test_bad_content_is_refused_with_its_field(content, message) -> None:
    with pytest.raises(DataError, match=message):
        parse_vocabulary(content)


def test_errors_name_the_file(tmp_path) -> None:
    path = write_vocabulary(tmp_path, "classes: [")
    with pytest.raises(DataError, match=r"farm\.yaml: not valid YAML"):
        load_vocabulary(path)
    with pytest.raises(DataError, match=r"none\.yaml: can.t be read"):
        load_vocabulary(tmp_path / "none.yaml")
    path.write_text('classes: ["ca\\0t"]')
    with pytest.raises(DataError, match=r"farm\.yaml: classes\[0\]\.name: 'ca\\x00t' holds control"):
        load_vocabulary(path)
    path.write_bytes(b"classes: [\xff\xfe]")
    with pytest.raises(DataError, match="not valid YAML"):
        load_vocabulary(path)


def test_background_words_that_are_no_text_are_named(tmp_path) -> None:
    (tmp_path / "words.txt").write_bytes(b"caf\xe9")
    path = write_vocabulary(tmp_path, "classes: [cat]\nbackground: words.txt")
    with pytest.raises(DataError, match=r"words\.txt.*utf-8"):
        load_vocabulary(path)


def test_yaml_that_makes_objects_is_refused(tmp_path) -> None:
    path = write_vocabulary(tmp_path, "classes: !!python/object/apply:os.getcwd []")
    with pytest.raises(DataError, match="not valid YAML"):
        load_vocabulary(path)


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        UnknownNameError, match=r"Did you mean 'imagenet-vid'\? Built in: imagenet-vid, youtube"
    ):
        load_vocabulary("imagenet_vid")


def test_a_vocabulary_made_in_code_is_checked_too() -> None:
    with pytest.raises(DataError, match="taken by 'cat'"):
        Vocabulary("pets", (ForegroundClass("cat"), ForegroundClass("Cat")))


def test_spoken_names_have_no_underscores() -> None:
    assert spoken("__background__") == "background"
    assert spoken("earless_seal") == "earless seal"


def test_the_documented_file_is_valid(tmp_path) -> None:
    page = Path(__file__).parents[2] / "docs" / "vocabularies.md"
    vocabulary = load_vocabulary(
        write_vocabulary(tmp_path, page.read_text().split("```")[1].removeprefix("yaml"))
    )
    assert vocabulary.names == ("__background__", "cow", "sheep")
    assert vocabulary.classes[1].held_out
    assert vocabulary.dropped == {}
