"""Case e: prompts in order, class maxima and softmax. Token ids are checked with the text tower."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from ovvol_bench.naming.prompts import Prompts, TextBank, build_prompts
from ovvol_bench.naming.scores import class_logits, class_probabilities
from ovvol_bench.naming.settings import REFERENCE
from ovvol_bench.naming.vocabulary import Vocabulary, imagenet_vid, parse_vocabulary


def _names_of_class(case: dict, class_id: int) -> list[str]:
    """What the first template's prompts of a class say."""
    before, after = case["templates"][0].split("%s")
    first = case["prompts"][: case["n_prompts"] // len(case["templates"])]
    ids = case["prompts_classes_idx"]
    return [
        text[len(before) : len(text) - len(after)]
        for text, i in zip(first, ids, strict=False)
        if i == class_id
    ]


def golden_vocabulary(case: dict) -> Vocabulary:
    """The words of a set of case e; the lists as given, or read off the prompts where they aren't."""
    count = case["foreground_n_classes"]
    names = case["given_foreground"] or case["classes_name"][:count]
    classes = [
        {"name": name, "synonyms": [word for word in _names_of_class(case, i) if word != name]}
        for i, name in enumerate(names)
        if i > 0
    ]
    background = case["given_background"]
    if not isinstance(background, list):
        background = case["classes_name"][count:]
    return parse_vocabulary(
        {"name": case["name"], "classes": classes, "background": background, "templates": case["templates"]}
    )


def golden_prompts(case: dict) -> Prompts:
    """The prompts of a set of case e, made by the project."""
    settings = replace(REFERENCE, templates=None, use_synonyms=case["given_foreground"] is None)
    return build_prompts(golden_vocabulary(case), settings)


def _cases(golden: Path) -> tuple[dict, dict]:
    description = json.loads((golden / "text_prompts.json").read_text())
    return description, load_file(golden / description["files"]["tensors"])


def _assert_prompts(prompts: Prompts, case: dict, prefix: str, is_foreground: str) -> None:
    assert list(prompts.texts) == case[f"{prefix}prompts"]
    assert prompts.class_ids.tolist() == case[f"{prefix}prompts_classes_idx"]
    assert prompts.is_foreground.tolist() == case[is_foreground]
    assert list(prompts.class_names) == case[f"{prefix}classes_name"]
    assert len(prompts.class_names) == case[f"{prefix}n_classes"]


def test_golden_text_prompts_texts_and_classes(golden: Path) -> None:
    for case in _cases(golden)[0]["sets"]:
        prompts = golden_prompts(case)
        assert len(prompts) == case["n_prompts"]
        _assert_prompts(prompts, case, "", "is_foreground")
        _assert_prompts(prompts.names_only(), case, "foreground_", "foreground_prompts_is_foreground")


def test_golden_text_prompts_embeddings_and_scores(golden: Path) -> None:
    description, tensors = _cases(golden)
    tolerance = description["tolerance"]
    for case in description["sets"]:
        name = case["name"]
        text = TextBank.of(golden_prompts(case), tensors[f"{name}.encoded_text"])
        features = {"text_features": text, "foreground_text_features": text.names}
        for key, bank in features.items():
            np.testing.assert_allclose(
                bank.embeddings, tensors[f"{name}.{key}"], rtol=0, atol=tolerance["text_features_abs"]
            )
        logits = tensors[f"{name}.prompt_logits"][None]
        by_class = class_logits(logits, text.prompts.class_ids, case["n_classes"])
        assert by_class.dtype == np.float64
        np.testing.assert_array_equal(by_class[0], tensors[f"{name}.class_logits"])
        np.testing.assert_allclose(
            class_probabilities(by_class)[0],
            tensors[f"{name}.class_softmax"],
            rtol=0,
            atol=tolerance["class_softmax_abs"],
        )


def test_golden_text_prompts_official_set_is_the_built_in_vocabulary(golden: Path) -> None:
    case = next((case for case in _cases(golden)[0]["sets"] if case["name"] == "official"), None)
    if case is not None:
        settings = replace(REFERENCE, templates=tuple(case["templates"]))
        assert list(build_prompts(imagenet_vid(), settings).texts) == case["prompts"]
