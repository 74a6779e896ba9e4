"""Tokens that texts have in common from their beginning on.

Attention is causal: tokens that stand after the same tokens have the same states. They are one
observation, however many texts begin so.
"""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike
from torch import Tensor


def prefix_key(tokens: Int[Tensor, "pos"], pos: int) -> bytes:
    """A key of a token and all tokens before it: 32 bytes, however long the text."""
    return hashlib.sha256(tokens[: pos + 1].numpy().tobytes()).digest()


def first_texts(places: Iterable[tuple[str, Int[Tensor, "pos"], int]]) -> list[str]:
    """For each of some tokens, the first text in which it stands among them after the same tokens.

    A place is (text_id, tokens of the text, position), and texts come in their order.

    >>> import torch
    >>> one, other = torch.tensor([5, 6, 7]), torch.tensor([5, 6, 8])
    >>> first_texts([("a", one, 1), ("a", one, 2), ("b", other, 1), ("b", other, 2)])
    ['a', 'a', 'a', 'b']
    """
    first: dict[bytes, str] = {}
    return [first.setdefault(prefix_key(ids, pos), text_id) for text_id, ids, pos in places]


def n_alike(one: ArrayLike, other: ArrayLike) -> int:
    """Number of tokens that two texts have in common from the first on.

    >>> n_alike([5, 6, 7], [5, 6, 8, 9])
    2
    """
    first, second = np.asarray(one), np.asarray(other)
    both = min(len(first), len(second))
    differ = np.flatnonzero(first[:both] != second[:both])
    return int(differ[0]) if len(differ) else both


def shared_lengths(texts: Sequence[ArrayLike]) -> list[int]:
    """For each text, the number of tokens from its first on with which an earlier one begins too.

    >>> shared_lengths([[5, 6, 7], [5, 6, 8, 9], [5, 6, 8]])
    [0, 2, 3]
    """
    return [
        max((n_alike(earlier, tokens) for earlier in texts[:number]), default=0)
        for number, tokens in enumerate(texts)
    ]
