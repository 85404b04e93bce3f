"""Case f: slot masks and patch features into filtered, merged, named segments with boxes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from golden_vectors import load_case
from naming_steps import name_clip
from safetensors.numpy import load_file
from torch import Tensor

from ovvol_bench.naming.localize import pool, pool_segments, winning_slots
from ovvol_bench.naming.prompts import REFERENCE_FOREGROUND, Prompts, TextBank
from ovvol_bench.naming.rule import (
    group_slots,
    judge_slots,
    name_probabilities,
    prompt_logits,
    segments_by_slot,
    touching,
)
from ovvol_bench.naming.settings import REFERENCE, NamingSettings


@dataclass(frozen=True)
class ClipCase:
    case: dict
    tensors: dict[str, np.ndarray]
    tolerance: dict
    masks: Tensor
    patches: Tensor
    text: TextBank
    settings: NamingSettings

    @property
    def name(self) -> str:
        return self.case["name"]

    @property
    def slot_map(self) -> np.ndarray:
        return winning_slots(self.masks, frames=len(self.patches)).numpy()

    @property
    def pooled(self) -> np.ndarray:
        slots = torch.from_numpy(self.slot_map)
        members = slots == torch.arange(len(self.masks))[:, None, None, None]
        return pool(members, self.patches).numpy()


def _text_bank(words: dict, embeddings: np.ndarray) -> TextBank:
    """A set of case e (which checks how its prompts are made) with the text features of the clip."""
    class_ids = np.array(words["prompts_classes_idx"])
    names = tuple(words["classes_name"])
    classes = words["foreground_n_classes"] - 1
    prompts = Prompts(tuple(words["prompts"]), class_ids, names, classes, REFERENCE_FOREGROUND)
    return TextBank.of(prompts, embeddings)


def _clips(golden: Path) -> Iterator[ClipCase]:
    description = load_case(golden, "post_processing")
    files = {"tensors": "post_processing.safetensors", "text": "text_prompts.safetensors"}
    tensors, text_tensors = (load_file(golden / name) for name in (files | description["files"]).values())
    word_sets = {words["name"]: words for words in load_case(golden, "text_prompts")["sets"]}
    settings = replace(REFERENCE, temperature=float(description.get("temperature", 100)))
    tolerance = {"logits_abs": 2e-3, "class_probabilities_abs": 2e-5, "scores_abs": 2e-5}
    tolerance |= description["tolerance"]
    for case in description["clips"]:
        name, set_name = case["name"], case["text_set"].split()[-1]
        embeddings = tensors.get(f"{name}.text_features", text_tensors.get(f"{set_name}.text_features"))
        first_seed = torch.from_numpy(tensors[f"{name}.mask"][0]).float()
        masks = first_seed.movedim(1, 0).unflatten(-1, case["grid"])
        patches = torch.from_numpy(tensors[f"{name}.patch_feat"]).float()
        patches = patches.unflatten(0, (case["frames"], *case["grid"]))
        text = _text_bank(word_sets[set_name], embeddings)
        yield ClipCase(case, tensors, tolerance, masks, patches, text, settings)


def test_golden_post_processing_slots_touching_and_filter(golden: Path) -> None:
    for clip in _clips(golden):
        case, slot_map = clip.case, clip.slot_map
        np.testing.assert_array_equal(slot_map, clip.tensors.get(f"{clip.name}.mask_argmax", slot_map))
        nodes = np.unique(slot_map)
        touches = touching(slot_map, len(clip.masks), "reference")
        _assert_entries({"nodes": nodes.tolist(), "edges": np.argwhere(np.triu(touches)).tolist()}, case)

        pooled = clip.pooled[nodes]
        logits = prompt_logits(pooled, clip.text, clip.settings.temperature)
        atol = clip.tolerance["logits_abs"]
        expected_logits = clip.tensors.get(f"{clip.name}.slot_logits_all_prompts", logits)
        np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=atol)

        verdict, expected = judge_slots(pooled, clip.text, clip.settings), case.get("filter", {})
        found = {
            "criterion_max_foreground_logit_positive": verdict.is_positive.tolist(),
            "criterion_argmax_is_foreground": verdict.names_object.tolist(),
            "argmax_prompt": verdict.best_prompt.tolist(),
            "forced_to_keep_one": verdict.forced,
            "kept_slots": nodes[verdict.kept].tolist(),
            "removed_slots": nodes[~verdict.kept].tolist(),
        }
        _assert_entries(found, expected)
        gap = np.diff(np.sort(logits, axis=1)[:, -2:]).min()
        np.testing.assert_allclose(gap, expected.get("top2_gap_min", gap), rtol=0, atol=2 * atol)


def _assert_entries(found: dict, expected: dict) -> None:
    """What the case has of these is equal."""
    for name, value in found.items():
        assert value == expected.get(name, value), name


def test_golden_post_processing_segments(golden: Path) -> None:
    for clip in _clips(golden):
        for variant in clip.case["variants"]:
            _check_segments(clip, variant)


def _variant_settings(clip: ClipCase, variant: dict) -> tuple[str, NamingSettings]:
    key = f"{clip.name}.f{int(variant['filter_bg'])}m{int(variant['merge_fg'])}"
    merge = "same_name" if variant["merge_fg"] else "none"
    return key, replace(clip.settings, filter_background=variant["filter_bg"], merge=merge)


def _check_segments(clip: ClipCase, variant: dict) -> None:
    key, settings = _variant_settings(clip, variant)
    groups = group_slots(clip.slot_map, clip.pooled, clip.text, settings)
    members, slots = [list(group) for group in groups], [group[0] for group in groups]
    _assert_entries({"members": members, "output_slots": slots}, variant)

    sums = pool_segments(clip.pooled, segments_by_slot(groups, len(clip.masks)), len(groups))
    probabilities = name_probabilities(sums, clip.text, settings.temperature)
    assert probabilities.dtype == np.float64
    atol = clip.tolerance["class_probabilities_abs"]
    expected = clip.tensors.get(f"{key}.class_probabilities", probabilities)
    np.testing.assert_allclose(probabilities, expected, rtol=0, atol=atol, err_msg=key)
    labels = probabilities.argmax(axis=1)
    names = [clip.text.prompts.class_names[label] for label in labels]
    _assert_entries({"labels": labels.tolist(), "names": names}, variant)
    scores = probabilities.max(axis=1)
    np.testing.assert_allclose(
        scores, variant.get("scores", scores), rtol=0, atol=clip.tolerance["scores_abs"]
    )
    if variant.get("merge_order_invariant", False):
        _check_order_invariance(clip, groups, settings)


def _check_order_invariance(clip: ClipCase, groups: list, settings: NamingSettings) -> None:
    """Other slot ids, and with them another order of merging, give the same segments."""
    for seed in range(3):
        new_id = np.random.default_rng(seed).permutation(len(clip.masks))
        pooled = np.empty_like(clip.pooled)
        pooled[new_id] = clip.pooled
        renamed = group_slots(new_id[clip.slot_map], pooled, clip.text, settings)
        expected = sorted(sorted(new_id[list(group)].tolist()) for group in groups)
        assert [list(group) for group in renamed] == expected


def test_golden_post_processing_localizations(golden: Path) -> None:
    for clip in _clips(golden):
        for variant in clip.case["variants"]:
            _check_localization(clip, variant)


def _check_localization(clip: ClipCase, variant: dict) -> None:
    key, settings = _variant_settings(clip, variant)
    size = (clip.case["height"], clip.case["width"])
    found = name_clip(clip.masks, clip.patches, clip.text, settings, size)
    masks = clip.tensors.get(f"{key}.masks", found.masks).astype(bool)
    np.testing.assert_array_equal(found.masks, masks, err_msg=key)
    np.testing.assert_array_equal(found.boxes, clip.tensors.get(f"{key}.boxes", found.boxes), err_msg=key)
    _assert_entries({"empty_boxes": int((~found.present).sum())}, variant)
    assert not found.boxes[~found.present].any(), key
    np.testing.assert_allclose(
        found.probabilities,
        clip.tensors.get(f"{key}.class_probabilities", found.probabilities),
        rtol=0,
        atol=clip.tolerance["class_probabilities_abs"],
    )
    if f"{key}.boxlist_bbox" in clip.tensors:
        _check_every_class_rows(clip, key, found.boxes, found.probabilities)


def _check_every_class_rows(clip: ClipCase, key: str, boxes: np.ndarray, probabilities: np.ndarray) -> None:
    """The rows that the paper's AP is made of: each box once for every class, segment by segment."""
    frames, segments, names = len(boxes), *probabilities.shape
    rows = np.repeat(boxes, names, axis=1)
    labels = np.tile(np.arange(names), (frames, segments))
    scores = np.tile(probabilities.reshape(-1), (frames, 1))
    np.testing.assert_array_equal(rows, clip.tensors[f"{key}.boxlist_bbox"])
    np.testing.assert_array_equal(labels, clip.tensors[f"{key}.boxlist_labels"])
    expected = clip.tensors[f"{key}.boxlist_scores"]
    np.testing.assert_allclose(scores, expected, rtol=0, atol=clip.tolerance["scores_abs"])
