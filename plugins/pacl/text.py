"""Prompts to CLIP tokens."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from ovvol_bench import SettingError

CONTEXT = 77


def tokenize(prompts: Sequence[str]) -> Tensor:
    """CLIP's byte-pair ids: start, words in lower case, end, zeros.

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


@cache
def _tokenizer() -> SimpleTokenizer:
    return SimpleTokenizer()
