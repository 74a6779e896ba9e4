"""Tokens that texts have in common from their beginning on.

Attention is causal: tokens that stand after the same tokens have the same states. They are one
observation, however many texts begin so.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


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
