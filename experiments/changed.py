"""Ways to change the tokens of a text, so that what its sinks need is missing."""

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Int
from torch import Generator, Tensor

Tokens = Int[Tensor, "pos"]
SHUFFLED, RANDOM = "in random order", "as random tokens"
TWICE, BEHEADED = "first half read twice", "without the first token"
Change = Callable[[Tokens, Generator, int, int], Tokens]
"""Tokens, random numbers, size of the vocabulary, and how many first tokens stay."""


def shuffled(tokens: Tokens, chance: Generator, vocabulary: int, kept: int) -> Tokens:
    """The same tokens in random order; the first ones stay."""
    order = torch.randperm(len(tokens) - kept, generator=chance) + kept
    return torch.cat([tokens[:kept], tokens[order]])


def random_tokens(tokens: Tokens, chance: Generator, vocabulary: int, kept: int) -> Tokens:
    """Random tokens of the vocabulary after the first ones."""
    drawn = torch.randint(vocabulary, (len(tokens) - kept,), generator=chance, dtype=tokens.dtype)
    return torch.cat([tokens[:kept], drawn])


def twice(tokens: Tokens, chance: Generator, vocabulary: int, kept: int) -> Tokens:
    """The first half, and the same again."""
    return tokens[: len(tokens) // 2].repeat(2)


def beheaded(tokens: Tokens, chance: Generator, vocabulary: int, kept: int) -> Tokens:
    """All tokens but the first."""
    return tokens[1:]


CHANGES: Mapping[str, Change] = {
    SHUFFLED: shuffled,
    RANDOM: random_tokens,
    TWICE: twice,
    BEHEADED: beheaded,
}
