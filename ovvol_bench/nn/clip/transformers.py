"""CLIPs as transformers saves them, brought to OpenAI's names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ovvol_bench.errors import WeightsError
from ovvol_bench.weights import State, matches

MARK = "vision_model.embeddings.patch_embedding.weight"
_TOWERS = (("vision_model.", "visual."), ("text_model.", ""))
_PROJECTIONS = {"visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection"}
_TABLES = (
    ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding.", "conv1."),
    ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token_embedding.", "token_embedding."),
    ("pre_layrnorm.", "ln_pre."),  # sic
    ("post_layernorm.", "ln_post."),
    ("final_layer_norm.", "ln_final."),
    ("encoder.layers.", "transformer.resblocks."),
    ("self_attn.out_proj.", "attn.out_proj."),
    ("layer_norm1.", "ln_1."),
    ("layer_norm2.", "ln_2."),
    ("mlp.fc1.", "mlp.c_fc."),
    ("mlp.fc2.", "mlp.c_proj."),
)


def openai_names(state: State) -> State:
    """Both towers of a ``CLIPModel`` under the names that OpenAI's and open_clip's files have."""
    renamed: State = {}
    for name, value in state.items():
        if name in _PROJECTIONS:
            renamed[_PROJECTIONS[name]] = value.T
            continue
        if matches(name, ("*.position_ids",)):  # 0, 1, 2, ... in older files
            continue
        ours = name
        for old, new in _TOWERS:
            ours = f"{new}{ours.removeprefix(old)}" if ours.startswith(old) else ours
        for old, new in _TABLES:
            ours = ours.replace(old, new)
        renamed[ours] = value
    for first in [name for name in renamed if ".self_attn.q_proj." in name]:
        parts = [renamed.pop(first.replace("q_proj", f"{part}_proj"), None) for part in "qkv"]
        joined = torch.cat([part for part in parts if part is not None])
        renamed[first.replace("self_attn.q_proj.", "attn.in_proj_")] = joined
    return renamed


def clip_numbers(config: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The architecture that a ``config.json`` of transformers states; empty if it is of no CLIP.

    Returns:
        Values of `ClipNumbers` by name.

    Raises:
        WeightsError: if it states what a plain CLIP hasn't, or leaves out what it needs.
    """
    if config.get("model_type") != "clip":
        return {}
    image, text = (config.get(f"{tower}_config") or {} for tower in ("vision", "text"))
    activations = {each.get("hidden_act", "quick_gelu") for each in (image, text)}
    if len(activations) > 1 or not activations <= {"gelu", "quick_gelu"}:
        raise WeightsError(
            f"{path}: config.json has hidden_act={', '.join(map(str, activations))}; "
            "expected one GELU for both."
        )
    try:
        numbers = {
            "embed_dim": config["projection_dim"],
            "patch_size": image["patch_size"],
            "image_size": image["image_size"],
            "width": image["hidden_size"],
            "layers": image["num_hidden_layers"],
            "heads": image["num_attention_heads"],
            "text_width": text["hidden_size"],
            "text_layers": text["num_hidden_layers"],
            "text_heads": text["num_attention_heads"],
        }
    except (KeyError, TypeError) as error:
        raise WeightsError(f"{path}: config.json doesn't state {error}, which a CLIP needs.") from error
    if wrong := [name for name, value in numbers.items() if type(value) is not int]:
        raise WeightsError(f"{path}: config.json: {wrong[0]} is {numbers[wrong[0]]!r}; expected a number.")
    return {**numbers, "quick_gelu": activations == {"quick_gelu"}}
