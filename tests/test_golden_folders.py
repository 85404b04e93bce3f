"""The checks of reference vectors take other folders in the same format."""

import json

import numpy as np
import pytest
from golden_checks import schedule, spectral, text_prompts, videomae
from safetensors.numpy import load_file, save_file


def write_case(folder, case, tensors):
    name = case["case"]
    (folder / f"{name}.json").write_text(json.dumps(case | {"files": {"tensors": f"{name}.safetensors"}}))
    save_file(tensors, folder / f"{name}.safetensors")


def words(foreground, count, background):
    """A set of two spellings of ``count`` classes as the published program would list it."""
    names = ["__background__", *(f"class{i:02d}" for i in range(1, count + 1))]
    spoken = [[names[0]], *(sorted([name, f"thing {name}"]) for name in names[1:])]
    spoken += [[word] for word in background]
    ids = [class_id for class_id, each in enumerate(spoken) for _ in each]
    return {
        "name": "other",
        "templates": ["a photo of %s"],
        "prompts": [f"a photo of {word}" for each in spoken for word in each],
        "prompts_classes_idx": ids,
        "is_foreground": [0 < class_id < 31 for class_id in ids],
        "classes_name": [*names, *background],
        "foreground_n_classes": len(names),
        "given_foreground": {name: foreground(name) for name in names},
        "given_background": background,
    }


@pytest.mark.parametrize("count", [5, 40])
@pytest.mark.parametrize(
    "synonyms",
    [lambda name: [f"thing {name}"], lambda name: [f"thing {name}", name]],
    ids=["without", "with"],
)
def test_a_set_of_words_may_map_classes_to_synonyms(tmp_path, count, synonyms):
    def foreground(name):
        return [name] if name == "__background__" else synonyms(name)

    case = {"case": "text_prompts", "sets": [words(foreground, count, ["sky", "sea", "sand"])]}
    write_case(tmp_path, case, {})
    text_prompts.test_golden_text_prompts_texts_and_classes(tmp_path)
    text_prompts.test_golden_text_prompts_embeddings_and_scores(tmp_path)
    case["sets"][0]["is_foreground"][1] = False
    write_case(tmp_path, case, {})
    with pytest.raises(AssertionError, match="is_foreground"):
        text_prompts.test_golden_text_prompts_texts_and_classes(tmp_path)


def test_a_case_may_hold_input_and_output_only(tmp_path, golden):
    case = json.loads((golden / "videomae.json").read_text())
    weights = case["files"]["weights"]
    (tmp_path / weights).symlink_to(golden / weights)
    given = load_file(golden / case["files"]["tensors"])
    some = {name: given[name] for name in ("input_1", "output_1")}
    files = {"tensors": "videomae.safetensors", "weights": weights}
    kept = {"case": "videomae", "config": case["config"], "cases": [{"index": 1}], "files": files}
    (tmp_path / "videomae.json").write_text(json.dumps(kept))
    save_file(some, tmp_path / "videomae.safetensors")
    videomae.test_golden_videomae_forward(tmp_path)
    save_file(some | {"output_1": some["output_1"] + np.float32(1e-3)}, tmp_path / "videomae.safetensors")
    with pytest.raises(AssertionError):
        videomae.test_golden_videomae_forward(tmp_path)


def test_a_case_may_be_missing(tmp_path):
    for check in (spectral.test_golden_spectral, schedule.test_golden_schedule_factors):
        with pytest.raises(pytest.skip.Exception, match=r"has no .*\.json"):
            check(tmp_path)
