"""Sizes of the chunks in which a text and the vocabulary are computed."""

from collections.abc import Iterator

from secondary_sinks.measures.from_qk import SCORES_AT_ONCE

QUERIES = 256
"""Most queries whose scores are held at a time."""
POSITIONS = 1024
"""Positions, of all texts together, that go through a layer at a time if no pattern is computed:
enough for matrix products at full speed, and few enough for the MLP's activations to be small."""
LOGITS = 2048
"""Logits of each position that are computed at a time: for some hundred positions, they stay in the
processor's cache until they are reduced."""


def fitting_chunk(n_heads: int, n_pos: int) -> int:
    """Number of queries whose scores on a whole text, of all heads, fit into `SCORES_AT_ONCE`.

    At least 1 and at most `QUERIES`.

    >>> fitting_chunk(n_heads=9, n_pos=2048), fitting_chunk(n_heads=9, n_pos=16384)
    (256, 113)
    """
    return max(1, min(QUERIES, SCORES_AT_ONCE // (n_heads * n_pos)))


def vocabulary_chunks(d_vocab: int) -> Iterator[slice]:
    """Consecutive slices of the vocabulary, `LOGITS` tokens each.

    >>> list(vocabulary_chunks(5000))
    [slice(0, 2048, None), slice(2048, 4096, None), slice(4096, 5000, None)]
    """
    return (slice(at, min(at + LOGITS, d_vocab)) for at in range(0, d_vocab, LOGITS))
