"""Case e, tokens: prompts to CLIP's byte-pair ids."""

import torch
from golden_vectors import load_case, load_tensors

from ovvol_bench.nn.clip.text import tokenize


def test_golden_tokens_of_all_prompts(golden):
    case = load_case(golden, "text_prompts")
    tensors = load_tensors(golden, case)
    for item in case["sets"]:
        found = tokenize(item["prompts"]).int()
        assert torch.equal(found, tensors.get(f"{item['name']}.tokens", found))
