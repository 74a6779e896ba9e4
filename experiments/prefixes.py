"""Tokens that texts have in common from their beginning on.

Attention is causal: tokens that stand after the same tokens have the same states. They are one
observation, however many texts begin so.
"""

import hashlib
from collections.abc import Iterable

from jaxtyping import Int
from torch import Tensor

Tokens = Int[Tensor, "pos"]
COPIES = "copies of tokens in earlier texts"
"""Why a token is left out."""


def copies_among(places: Iterable[tuple[str, Tokens, int]]) -> list[bool]:
    """Whether each of some tokens stands among them in an earlier text, after the same tokens.

    A place is (text_id, tokens of the text, position), and texts come in their order.

    >>> import torch
    >>> one, other = torch.tensor([5, 6, 7]), torch.tensor([5, 6, 8])
    >>> copies_among([("a", one, 1), ("a", one, 2), ("b", other, 1), ("b", other, 2)])
    [False, False, True, False]
    """
    first: dict[bytes, str] = {}
    found = []
    for text_id, tokens, pos in places:
        found.append(first.setdefault(prefix_key(tokens, pos), text_id) != text_id)
    return found


def prefix_key(tokens: Tokens, pos: int) -> bytes:
    """A key of a token and all tokens before it: 32 bytes, however long the text."""
    return hashlib.sha256(tokens[: pos + 1].numpy().tobytes()).digest()
