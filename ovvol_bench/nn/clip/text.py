"""Prompts to CLIP tokens, and those to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from open_clip.transformer import TextTransformer
from torch import Tensor

from ovvol_bench.errors import SettingError

CONTEXT = 77
_PROMPTS_AT_ONCE = 256


def tokenize(prompts: Sequence[str]) -> Tensor:
    """Return CLIP's byte-pair ids: start, words in lower case, end, zeros.

    Returns:
        (P, 77) int64.

    Raises:
        SettingError: if a prompt is too long.
    """
    tokenizer = _tokenizer()
    tokens: Tensor = tokenizer(list(prompts), context_length=CONTEXT)
    for full in tokens[:, -1].nonzero().flatten().tolist():
        length = len(tokenizer.encode(prompts[full])) + 2
        if length > CONTEXT:
            raise SettingError(
                f"the prompt {prompts[full][:60]!r}... has {length} tokens with start and end; "
                f"CLIP reads {CONTEXT}. Shorten the template or the name."
            )
    return tokens


def embed_tokens(tower: TextTransformer, tokens: Tensor) -> Tensor:
    """Embed prompts, without the zeros after the longest of them.

    Args:
        tower: plain, as `towers.build_towers` makes it.
        tokens: (P, 77) int64 from `tokenize`.

    Returns:
        (P, E).
    """
    # Attention is causal and the end mark is what is read: nothing depends on what comes after it, and a
    # short prompt costs a fraction of the tower's own 77 tokens.
    length = int((tokens != 0).sum(dim=1).max())
    tokens = tokens[:, :length]
    states = tower.token_embedding(tokens) + tower.positional_embedding[:length]
    states = tower.transformer(states, attn_mask=tower.attn_mask[:length, :length])
    ends = tower.ln_final(states[torch.arange(len(tokens), device=tokens.device), tokens.argmax(dim=1)])
    return ends @ tower.text_projection  # type: ignore[no-any-return]


def embed_sentences(tower: TextTransformer, prompts: Sequence[str]) -> Tensor:
    """Embed sentences with the text tower.

    Args:
        tower: plain, as `towers.build_towers` makes it.
        prompts: P sentences.

    Returns:
        (P, E) float32, rows of unit length.

    Raises:
        SettingError: if a prompt is too long.
    """
    tokens = tokenize(prompts).to(tower.text_projection.device)
    embedded = torch.cat([embed_tokens(tower, part) for part in tokens.split(_PROMPTS_AT_ONCE)])
    return F.normalize(embedded.float(), dim=-1)


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()
