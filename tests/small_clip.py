"""A tiny CLIP with random weights, of the same classes as the real ones."""

import json

import torch

from ovvol_bench.nn.clip.files import sparse_tokens, stated
from ovvol_bench.nn.clip.towers import ClipNumbers, build_towers
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


def transformers_folder(towers, folder, vision=None, text=None):
    """Both towers in a folder, as a ``CLIPModel`` of transformers is saved, written out by hand."""
    names = (
        ("transformer.resblocks.", "encoder.layers."), ("attn.out_proj.", "self_attn.out_proj."),
        ("ln_1.", "layer_norm1."), ("ln_2.", "layer_norm2."),
        ("mlp.c_fc.", "mlp.fc1."), ("mlp.c_proj.", "mlp.fc2."),
        ("ln_pre.", "pre_layrnorm."), ("ln_post.", "post_layernorm."), ("ln_final.", "final_layer_norm."),
        ("positional_embedding", "embeddings.position_embedding.weight"),
        ("conv1.", "embeddings.patch_embedding."), ("class_embedding", "embeddings.class_embedding"),
        ("token_embedding.", "embeddings.token_embedding."),
    )  # fmt: skip
    state = {"logit_scale": torch.ones(()), "text_model.embeddings.position_ids": torch.arange(77)[None]}
    for tower, prefix in ((towers.image, "vision_model."), (towers.text, "text_model.")):
        for name, value in tower.state_dict().items():
            if name in ("proj", "text_projection"):
                state["visual_projection.weight" if name == "proj" else "text_projection.weight"] = value.T
                continue
            theirs = name
            for ours, their in names:
                theirs = theirs.replace(ours, their)
            if "attn.in_proj_" in theirs:
                for part, rows in zip("qkv", value.chunk(3), strict=True):
                    state[prefix + theirs.replace("attn.in_proj_", f"self_attn.{part}_proj.")] = rows
            else:
                state[prefix + theirs] = value
    save_state(state, folder / "model.safetensors")
    numbers = towers.numbers
    image_config = {
        "hidden_act": "quick_gelu",
        "hidden_size": numbers.width,
        "num_hidden_layers": numbers.layers,
        "num_attention_heads": numbers.heads,
        "patch_size": numbers.patch_size,
        "image_size": numbers.image_size,
    }
    text_config = {
        "hidden_act": "quick_gelu",
        "hidden_size": numbers.text_width,
        "num_hidden_layers": numbers.text_layers,
        "num_attention_heads": numbers.text_heads,
    }
    config = {
        "model_type": "clip",
        "projection_dim": numbers.embed_dim,
        "vision_config": {**image_config, **(vision or {})},
        "text_config": {**text_config, **(text or {})},
    }
    (folder / "config.json").write_text(json.dumps(config))
