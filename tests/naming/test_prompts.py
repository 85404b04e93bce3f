"""Prompts and text embeddings."""

from __future__ import annotations

import numpy as np
import pytest

from ovvol_bench.errors import ContractError
from ovvol_bench.naming.prompts import TextBank, build_prompts
from ovvol_bench.naming.settings import REFERENCE, NamingSettings
from ovvol_bench.naming.vocabulary import ForegroundClass, Vocabulary

PETS = Vocabulary(
    "pets",
    (ForegroundClass("house_cat", ("kitten", "house cat")), ForegroundClass("dog")),
    background=("blue_sky",),
    templates=("a %s", "the %s"),
)


def test_order_is_template_then_class_then_text() -> None:
    prompts = build_prompts(PETS, NamingSettings())
    assert prompts.texts == (
        "a house cat",
        "a kitten",
        "a dog",
        "a blue sky",
        "the house cat",
        "the kitten",
        "the dog",
        "the blue sky",
    )
    assert prompts.class_ids.tolist() == [1, 1, 2, 3, 1, 1, 2, 3]
    assert prompts.is_foreground.tolist() == [True, True, True, False] * 2
    assert prompts.class_names == ("__background__", "house_cat", "dog", "blue_sky")
    assert prompts.num_classes == 2


def test_reference_takes_raw_names_and_a_prompt_for_the_background() -> None:
    prompts = build_prompts(PETS, REFERENCE)
    assert prompts.texts == (
        "a photo of __background__",
        "a photo of house_cat",
        "a photo of dog",
        "a photo of blue_sky",
    )
    assert prompts.class_ids.tolist() == [0, 1, 2, 3]
    assert prompts.is_foreground.tolist() == [False, True, True, True]  # class ids 1 to 30
    assert prompts.is_name.tolist() == [True, True, True, False]


@pytest.mark.parametrize("classes", [5, 40])
def test_the_published_filter_takes_class_ids_1_to_30_for_objects(classes: int) -> None:
    words = tuple(f"word {i}" for i in range(30))
    names = tuple(ForegroundClass(f"class {i}") for i in range(classes))
    vocabulary = Vocabulary("numbered", names, words)
    published = build_prompts(vocabulary, NamingSettings(foreground="reference"))
    assert published.class_ids[published.is_foreground].tolist() == list(range(1, 31))
    assert published.names_only().num_classes == classes
    right = build_prompts(vocabulary, NamingSettings())
    assert right.class_ids[right.is_foreground].tolist() == list(range(1, classes + 1))


def test_names_only_leaves_out_background_words() -> None:
    names = build_prompts(PETS, REFERENCE).names_only()
    assert names.texts == ("a photo of __background__", "a photo of house_cat", "a photo of dog")
    assert names.class_names == ("__background__", "house_cat", "dog")
    assert len(names) == 3


def test_a_percent_sign_in_a_name_or_template_is_text() -> None:
    odd = Vocabulary("odd", (ForegroundClass("50% %s"),), templates=("100% of %s",))
    assert build_prompts(odd, NamingSettings()).texts == ("100% of 50% %s",)


def test_text_bank_has_unit_rows_and_a_part_for_names() -> None:
    prompts = build_prompts(PETS, REFERENCE)
    text = TextBank.of(prompts, 3.0 * np.eye(4))
    np.testing.assert_array_equal(text.embeddings, np.eye(4))
    assert text.embeddings.dtype == np.float32
    np.testing.assert_array_equal(text.names.embeddings, np.eye(4)[:3])


@pytest.mark.parametrize("shape", [(3, 5), (4,), (4, 5, 1)])
def test_text_of_another_shape_is_refused(shape) -> None:
    with pytest.raises(ContractError, match=r"expected \(4, E\)"):
        TextBank.of(build_prompts(PETS, REFERENCE), np.ones(shape))


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_text_without_direction_is_refused_by_its_prompt(value) -> None:
    embeddings = np.ones((4, 5))
    embeddings[2] = value
    with pytest.raises(ContractError, match=r"'a photo of dog' is zero or not finite \(1 of 4 prompts\)"):
        TextBank.of(build_prompts(PETS, REFERENCE), embeddings)
