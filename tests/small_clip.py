"""A tiny CLIP with random weights, of the same classes as the real ones."""

import torch

from ovvol_bench.clip.files import sparse_tokens, stated
from ovvol_bench.clip.towers import ClipNumbers, build_towers
from ovvol_bench.weights import save_state

SMALL = {
    "embed_dim": 6,
    "patch_size": 4,
    "image_size": 12,
    "width": 16,
    "layers": 2,
    "heads": 2,
    "text_width": 8,
    "text_layers": 1,
    "text_heads": 2,
}


def small_towers(**numbers):
    return build_towers(ClipNumbers(**{**SMALL, **numbers}).config())


def openai_state(towers):
    """Both towers in one state dict, as OpenAI publishes it."""
    image = {f"visual.{name}": value for name, value in towers.image.state_dict().items()}
    numbers = {name: torch.tensor(12) for name in ("input_resolution", "context_length", "vocab_size")}
    return {**image, **towers.text.state_dict(), **numbers, "logit_scale": torch.ones(())}


def save_towers(towers, path):
    """Both towers in one file of the project's own layout."""
    image = {f"model.{name}": value for name, value in towers.image.state_dict().items()}
    text = {f"text.{name}": value for name, value in towers.text.state_dict().items()}
    save_state(sparse_tokens({**image, **text}), path, stated(towers.numbers))
