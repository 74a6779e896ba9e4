"""Tokens as they are fed: checked before anything is computed."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.errors import TextError
from secondary_sinks.models.vocabulary import check_ids


def token_ids(
    tokens: Tensor | Sequence[int] | str,
    d_vocab: int | None = None,
    tokenizer: Any = None,
    text: str = "the text",
) -> Int[Tensor, "pos"]:
    """Token ids `[pos]` on the CPU, checked before any forward pass.

    `tokenizer` and `text` are for what errors say. Raises `TextError`.
    """
    if isinstance(tokens, str):
        raise TextError("expected token ids, got a string; use model.to_tokens(text)")
    ids = torch.as_tensor(tokens).detach().cpu()
    if ids.ndim == 2 and ids.shape[0] == 1:
        ids = ids[0]
    if ids.ndim != 1 or ids.is_floating_point():
        raise TextError(f"expected token ids [pos] or [1, pos], got {ids.dtype} {tuple(ids.shape)}")
    if len(ids) < 2:
        raise TextError(f"the text has {len(ids)} token(s); expected at least 2")
    check_ids(ids.tolist(), d_vocab, tokenizer, text)
    return ids.long()


def token_strings(ids: Int[Tensor, "pos"], tokenizer: Any = None) -> tuple[str, ...]:
    """The text of every single token; its id in brackets where there is no tokenizer."""
    if tokenizer is None:
        return tuple(f"[{token}]" for token in ids.tolist())
    return tuple(tokenizer.decode([token]) for token in ids.tolist())
