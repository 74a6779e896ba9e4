"""Tokens that texts have in common from their beginning on.

Attention is causal: tokens that stand after the same tokens have the same states. They are one
observation, however many texts begin so.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike
from torch import Tensor


def prefix_key(tokens: Int[Tensor, "pos"], pos: int) -> bytes:
    """A key of a token and all tokens before it: 32 bytes, however long the text."""
    return hashlib.sha256(tokens[: pos + 1].numpy().tobytes()).digest()


def first_texts(places: Iterable[tuple[str, Int[Tensor, "pos"], int]]) -> list[str]:
    """For each place, the text of the first place with the same token after the same tokens.

    A place is (text_id, tokens of the text, position); the order is that of `places`. Tokens with
    the same beginning have the same states, so they are one observation.

    >>> import torch
    >>> one, other = torch.tensor([5, 6, 7]), torch.tensor([5, 6, 8])
    >>> first_texts([("a", one, 1), ("a", one, 2), ("b", other, 1), ("b", other, 2)])
    ['a', 'a', 'a', 'b']
    """
    first: dict[bytes, str] = {}
    return [first.setdefault(prefix_key(ids, pos), text_id) for text_id, ids, pos in places]


def n_alike(one: ArrayLike, other: ArrayLike) -> int:
    """Length in tokens of the beginning that two texts share.

    >>> n_alike([5, 6, 7], [5, 6, 8, 9])
    2
    """
    first, second = np.asarray(one), np.asarray(other)
    both = min(len(first), len(second))
    differ = np.flatnonzero(first[:both] != second[:both])
    return int(differ[0]) if len(differ) else both


def shared_lengths(texts: Sequence[ArrayLike]) -> list[int]:
    """For each text, the length in tokens of the longest beginning that an earlier text shares.

    Among sorted texts, each shares its longest beginning with a neighbour. So each text, the last
    first, is compared with its neighbours among those before it, and then removed.

    >>> shared_lengths([[5, 6, 7], [5, 6, 8, 9], [5, 6, 8]])
    [0, 2, 3]
    """
    ids = [np.asarray(text, dtype=np.int64) for text in texts]
    order = sorted(range(len(ids)), key=lambda number: ids[number].tobytes())
    after = dict(pairwise([-1, *order, -1]))
    before = {two: one for one, two in pairwise([-1, *order, -1])}
    alike = {two: n_alike(ids[one], ids[two]) for one, two in pairwise(order)}
    shared = [0] * len(ids)
    for number in reversed(range(len(ids))):
        one, two = before[number], after[number]
        own, next_one = alike.get(number, 0), alike.get(two, 0)  # each with the one before it
        shared[number] = max(own, next_one)
        after[one], before[two], alike[two] = two, one, min(own, next_one)
    return shared
