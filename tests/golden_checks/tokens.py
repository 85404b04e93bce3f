"""Case e, tokens: prompts to CLIP's byte-pair ids."""

import json

import torch
from safetensors.torch import load_file

from ovvol_bench.clip.text import tokenize


def test_golden_tokens_of_all_prompts(golden):
    case = json.loads((golden / "text_prompts.json").read_text())
    tensors = load_file(golden / case["files"]["tensors"])
    for item in case["sets"]:
        assert torch.equal(tokenize(item["prompts"]).int(), tensors[f"{item['name']}.tokens"])
