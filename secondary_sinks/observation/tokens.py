"""Token ids, checked before anything is computed, and their strings."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.display import count
from secondary_sinks.errors import TextError
from secondary_sinks.models.original.tokenizer import check_ids

SPACE = "\u2581"
"""How SentencePiece writes a space."""
BYTE = re.compile("<0x[0-9A-F]{2}>")
REPLACEMENT = "\ufffd"
"""How bytes that do not make a whole character are decoded."""


def token_ids(
    tokens: Tensor | Sequence[int] | str,
    d_vocab: int | None = None,
    tokenizer: Any = None,
    text: str = "the text",
) -> Int[Tensor, "pos"]:
    """Token ids `[pos]` on the CPU, checked before any forward pass.

    `tokenizer` and `text` are used in error messages. Raises `TextError` for anything but two or
    more ids within the vocabulary.
    """
    if isinstance(tokens, str):
        raise TextError("expected token ids, got a string", "use model.to_tokens(text)")
    ids = torch.as_tensor(tokens).detach().cpu()
    if ids.ndim == 2 and ids.shape[0] == 1:
        ids = ids[0]
    if ids.ndim != 1 or ids.is_floating_point():
        raise TextError(
            f"expected token ids [pos] or [1, pos], got {ids.dtype} {tuple(ids.shape)}",
            "give several texts as a list, each without padding",
        )
    if len(ids) < 2:
        raise TextError(f"the text has {count(len(ids), 'token')}", "expected at least 2")
    check_ids(ids.tolist(), d_vocab, tokenizer, text)
    return ids.long()


def token_strings(ids: Int[Tensor, "pos"], tokenizer: Any = None) -> tuple[str, ...]:
    """The string of each token; its id in brackets without a tokenizer."""
    if tokenizer is None:
        return tuple(f"[{token}]" for token in ids.tolist())
    words = {token: _string_of(token, tokenizer) for token in set(ids.tolist())}
    return tuple(words[token] for token in ids.tolist())


def _string_of(token: int, tokenizer: Any) -> str:
    """The decoded string of a token, or its piece of the vocabulary if decoding loses information.

    Decoded alone, a SentencePiece token loses its space, a byte token looks like the character, and
    parts of a character all look the same.
    """
    piece, decoded = str(tokenizer.convert_ids_to_tokens(token)), tokenizer.decode([token])
    if SPACE in piece:
        return piece.replace(SPACE, " ")
    return piece if BYTE.fullmatch(piece) or REPLACEMENT in decoded or not decoded else decoded
