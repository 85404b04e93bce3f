"""Case e: prompts in order, class maxima and softmax. Token ids are checked with the text tower."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from golden_vectors import load_case, load_tensors

from ovvol_bench.naming.prompts import Prompts, TextBank, build_prompts
from ovvol_bench.naming.rule import class_logits, class_probabilities
from ovvol_bench.naming.settings import REFERENCE
from ovvol_bench.naming.vocabulary import Vocabulary, imagenet_vid, parse_vocabulary

Case = dict[str, Any]


def _names_of_class(case: Case, class_id: int) -> list[str]:
    """What the first template's prompts of a class say."""
    before, after = case["templates"][0].split("%s")
    first = case["prompts"][: len(case["prompts"]) // len(case["templates"])]
    ids = case["prompts_classes_idx"]
    return [
        text[len(before) : len(text) - len(after)]
        for text, i in zip(first, ids, strict=False)
        if i == class_id
    ]


def _foreground_names(case: Case) -> list[str]:
    """Names of the foreground classes, the background's first."""
    given = case.get("given_foreground") or case["classes_name"][: case["foreground_n_classes"]]
    names = list(given)  # of a mapping to synonyms the keys
    return names if names[0] == "__background__" else ["__background__", *names]


def golden_vocabulary(case: Case) -> Vocabulary:
    """The words of a set of case e; the lists as given, or read off the prompts where they aren't."""
    names, given = _foreground_names(case), case.get("given_foreground")
    classes = []
    for class_id, name in enumerate(names[1:], 1):
        synonyms = given[name] if isinstance(given, dict) else _names_of_class(case, class_id)
        synonyms = [synonyms] if isinstance(synonyms, str) else synonyms or []
        classes.append({"name": name, "synonyms": [word for word in dict.fromkeys(synonyms) if word != name]})
    background = case.get("given_background")
    if not isinstance(background, list):
        background = case["classes_name"][len(names) :]
    background = [word for word in background if word not in names]  # E6
    return parse_vocabulary(
        {"name": case["name"], "classes": classes, "background": background, "templates": case["templates"]}
    )


def golden_prompts(case: Case) -> Prompts:
    """The prompts of a set of case e, made by the project, in the order of the case.

    A program whose synonyms pass through a set gives them in any order within a template and class.
    """
    settings = replace(REFERENCE, templates=None, use_synonyms=True)
    prompts = build_prompts(golden_vocabulary(case), settings)
    groups = {text: group for group, text in enumerate(prompts.texts)}
    if case.get("order_is_canonical_not_reference", True) or set(groups) != set(case["prompts"]):
        return prompts
    order = [groups[text] for text in case["prompts"]]
    assert (prompts.class_ids[order] == prompts.class_ids).all()
    return replace(prompts, texts=tuple(case["prompts"]))


def _cases(golden: Path) -> tuple[Case, dict[str, np.ndarray]]:
    description = load_case(golden, "text_prompts")
    tensors = load_tensors(golden, description)
    return description, {name: value.numpy() for name, value in tensors.items()}


def _assert_prompts(prompts: Prompts, case: Case, prefix: str, is_foreground: str) -> None:
    found = {
        f"{prefix}prompts": list(prompts.texts),
        f"{prefix}prompts_classes_idx": prompts.class_ids.tolist(),
        is_foreground: prompts.is_foreground.tolist(),
        f"{prefix}classes_name": list(prompts.class_names),
        f"{prefix}n_classes": len(prompts.class_names),
    }
    for name, value in found.items():
        assert value == case.get(name, value), name


def test_golden_text_prompts_texts_and_classes(golden: Path) -> None:
    for case in _cases(golden)[0]["sets"]:
        prompts = golden_prompts(case)
        assert list(prompts.texts) == case["prompts"]
        assert len(prompts) == case.get("n_prompts", len(prompts))
        _assert_prompts(prompts, case, "", "is_foreground")
        _assert_prompts(prompts.names_only(), case, "foreground_", "foreground_prompts_is_foreground")


def test_golden_text_prompts_embeddings_and_scores(golden: Path) -> None:
    description, tensors = _cases(golden)
    tolerance = description["tolerance"]
    for case in description["sets"]:
        name = case["name"]
        prompts = golden_prompts(case)
        if f"{name}.encoded_text" in tensors:
            text = TextBank.of(prompts, tensors[f"{name}.encoded_text"])
            features = {"text_features": text, "foreground_text_features": text.names}
            for key, bank in features.items():
                wanted = tensors.get(f"{name}.{key}", bank.embeddings)
                limit = tolerance.get("text_features_abs", 1e-6)
                np.testing.assert_allclose(bank.embeddings, wanted, rtol=0, atol=limit)
        if f"{name}.prompt_logits" not in tensors:
            continue
        logits = tensors[f"{name}.prompt_logits"][None]
        by_class = class_logits(logits, prompts.class_ids, len(prompts.class_names))
        assert by_class.dtype == np.float64
        np.testing.assert_array_equal(by_class[0], tensors.get(f"{name}.class_logits", by_class[0]))
        found = class_probabilities(by_class)[0]
        np.testing.assert_allclose(
            found,
            tensors.get(f"{name}.class_softmax", found),
            rtol=0,
            atol=tolerance.get("class_softmax_abs", 1e-9),
        )


def test_golden_text_prompts_of_the_official_names_are_the_built_in_vocabulary(golden: Path) -> None:
    built_in = imagenet_vid()
    for case in _cases(golden)[0]["sets"]:
        own = golden_vocabulary(case)
        if [each.name for each in own.classes] == [each.name for each in built_in.classes]:
            settings = replace(REFERENCE, templates=tuple(case["templates"]))
            if own.background == built_in.background and isinstance(case.get("given_foreground"), list):
                assert list(build_prompts(built_in, settings).texts) == case["prompts"]
