from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovvol_bench.data.vid_annotations import parse_any, parse_usual, read_annotations
from ovvol_bench.errors import DataError

IDS = {"n01": 1, "n02": 2}
SIZE = "<size><width>100</width><height>60</height></size>"
BOX = "<bndbox><xmax>30</xmax><xmin>10</xmin><ymax>40</ymax><ymin>20</ymin></bndbox>"


def annotation(*objects: str, size: str = SIZE) -> str:
    return f"<annotation>{size}{''.join(f'<object>{item}</object>' for item in objects)}</annotation>"


def read(folder, *texts: str, processes: int = 1):
    for i, text in enumerate(texts):
        (folder / f"{i:06d}.xml").write_text(text)
    return read_annotations([(folder, range(len(texts)))], IDS, processes)


def test_files_become_columns(tmp_path):
    full = f"<trackid>3</trackid><name>n02</name>{BOX}<occluded>1</occluded><generated>1</generated>"
    raw = read(tmp_path, annotation(full, f"<name>n09</name>{BOX}"), annotation(), annotation(full, size=""))
    assert raw.sizes.tolist() == [[60, 100], [60, 100], [0, 0]]
    assert raw.counts.tolist() == [2, 0, 1]
    assert raw.objects.tolist() == [
        [2, 10, 20, 30, 40, 3, 1, 1],
        [0, 10, 20, 30, 40, -1, 0, 0],
        [2, 10, 20, 30, 40, 3, 1, 1],
    ]


def test_files_without_objects_keep_the_shape(tmp_path):
    assert read(tmp_path, annotation()).objects.shape == (0, 8)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (annotation()[:-4], "not valid"),
        ("", "not valid"),
        (annotation("<name>n01</name>"), "an object without bndbox"),
        (annotation(BOX), "object without name"),
        (annotation(f"<name>n01</name>{BOX.replace('xmax', 'other')}"), "bndbox without xmax"),
        (annotation(f"<name>n01</name>{BOX.replace('30', 'nan')}"), "a box with the coordinates"),
        (annotation(f"<name>n01</name>{BOX.replace('30', 'wide')}"), "could not convert"),
        (annotation(size="<size><width>9</width></size>"), "size without height"),
    ],
)
def test_malformed_files_are_named_with_the_problem(tmp_path, text, problem):
    with pytest.raises(DataError, match=r"000001\.xml is not valid \(.*") as caught:
        read(tmp_path, annotation(), text)
    assert problem in str(caught.value)


def test_a_file_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"000000\.xml can't be read"):
        read_annotations([(tmp_path, [0])], IDS)


def test_several_processes_read_the_same_in_the_same_order(tmp_path):
    rng = np.random.default_rng(0)
    jobs = []
    for v in range(3):
        folder = tmp_path / str(v)
        folder.mkdir()
        for i in range(800):
            box = BOX.replace("30", str(30 + rng.integers(60)))
            (folder / f"{i:06d}.xml").write_text(annotation(*[f"<name>n01</name>{box}"] * rng.integers(3)))
        jobs.append((folder, range(800)))
    one, two = (read_annotations(jobs, IDS, processes) for processes in (1, 2))
    assert one.counts.sum() == len(one.objects) > 1000
    assert all(np.array_equal(vars(one)[name], vars(two)[name]) for name in vars(one))


def test_errors_come_back_from_processes(tmp_path):
    with pytest.raises(DataError, match=r"000001\.xml is not valid"):
        read(tmp_path, annotation(), "<annotation>", processes=2)


def usual(objects: list[tuple], break_lines: bool) -> bytes:
    """A file as the devkit writes it."""
    things = "".join(
        f"<object>\n<trackid>{track}</trackid><name>{name}</name>\n<bndbox>\n<xmax>{x2}</xmax><xmin>{x1}</xmin>"
        f"<ymax>{y2}</ymax><ymin>{y1}</ymin></bndbox><occluded>{o}</occluded>\n<generated>{g}</generated></object>\n"
        for track, name, x1, y1, x2, y2, o, g in objects
    )
    text = (
        "<annotation>\n<folder>val/ILSVRC2015_val_0</folder>\n<filename>000000</filename>\n<source>\n<database>"
        f"ILSVRC_2015</database>\n</source>\n{SIZE}\n{things}</annotation>\n"
    )
    return (text if break_lines else text.replace("\n", "")).encode()


pixel, flag = st.integers(0, 1999), st.integers(0, 1)
objects = st.lists(
    st.tuples(
        st.integers(0, 99), st.sampled_from(["n01", "n02", "n9"]), pixel, pixel, pixel, pixel, flag, flag
    ),
    max_size=4,
)


@given(objects, st.booleans())
def test_the_quick_parser_agrees_with_the_general_one(things, break_lines):
    text = usual(things, break_lines)
    assert parse_usual(text, IDS) == parse_any(text, IDS)
    assert len(parse_usual(text, IDS)[1]) == len(things)


@given(
    objects,
    st.integers(0, 2000),
    st.sampled_from([b"", b"<", b"&", b">", b"/", b"x", b"7", b" ", b"-", b"<!--"]),
)
def test_whatever_the_quick_parser_takes_is_well_formed(things, place, inserted):
    text = usual(things, break_lines=True)
    place %= len(text)
    damaged = text[:place] + inserted + text[place + 1 :]
    quick = parse_usual(damaged, IDS)
    assert quick is None or quick == parse_any(damaged, IDS)
