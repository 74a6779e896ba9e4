"""How much of a text, and of the vocabulary, is computed at a time."""

from collections.abc import Iterator

from secondary_sinks.measures.from_qk import SCORES_AT_ONCE

CHUNK = 256
"""Queries whose scores are held at a time, at most."""
ROWS = 1024
"""Positions, of all texts together, that go through a layer at a time where no pattern is made:
enough for matrix products at full speed, few enough for what an MLP makes of them to be small."""
WORDS = 2048
"""Words of the vocabulary in a strip of logits, which stays in the processor's cache with some
hundred positions until it is reduced."""


def fitting_chunk(n_heads: int, n_pos: int) -> int:
    """Queries of which all heads' scores on a whole text stay within `SCORES_AT_ONCE`.

    At most `CHUNK`, at least one.

    >>> fitting_chunk(n_heads=9, n_pos=2048), fitting_chunk(n_heads=9, n_pos=16384)
    (256, 113)
    """
    return max(1, min(CHUNK, SCORES_AT_ONCE // (n_heads * n_pos)))


def vocabulary_chunks(n_words: int) -> Iterator[slice]:
    """The words of a vocabulary, so many at a time.

    >>> list(strips(5000))
    [slice(0, 2048, None), slice(2048, 4096, None), slice(4096, 5000, None)]
    """
    return (slice(at, min(at + WORDS, n_words)) for at in range(0, n_words, WORDS))
