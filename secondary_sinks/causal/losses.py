"""What a model predicts from clean and edited residuals: loss of the next token, divergence."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.models.layers import Passage

LOGITS_AT_ONCE = 1 << 24
"""Logits of one text held at once: 64 MiB in float32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Losses:
    """In nats, by the position that predicts; the last position predicts nothing."""

    clean: Float[Tensor, "pos"]
    edited: dict[int, Float[Tensor, "suffix"]]
    """Of the last positions of each edited run, by number of the cell."""
    kl: dict[int, Float[Tensor, "suffix"]]
    """KL(clean || edited), the same."""


def losses(
    passage: Passage,
    tokens: Int[Tensor, "pos"],
    clean: Float[Tensor, "pos d_model"],
    edited: Mapping[int, Float[Tensor, "suffix d_model"]],
) -> Losses:
    """Losses of the clean run and of edited ones, from residuals of the last layer.

    Position by position, so that the clean prediction is made once for all edited runs, and no
    more than a few logits are held.
    """
    n, rows = len(tokens) - 1, max(1, LOGITS_AT_ONCE // int(passage.model.cfg.d_vocab))
    result = Losses(
        clean=torch.zeros(n),
        edited={cell: torch.zeros(len(state) - 1) for cell, state in edited.items()},
        kl={cell: torch.zeros(len(state) - 1) for cell, state in edited.items()},
    )
    for first in range(0, n, rows):
        end = min(first + rows, n)
        target = tokens[first + 1 : end + 1].to(clean.device)
        expected = _log_probs(passage, clean[first:end])
        result.clean[first:end] = _loss(expected, target)
        shares = expected.exp()
        for cell, state in edited.items():
            start = len(tokens) - len(state)
            begin = max(first, start)
            if begin >= end:
                continue
            got = _log_probs(passage, state[begin - start : end - start])
            there, here = slice(begin - start, end - start), slice(begin - first, end - first)
            result.edited[cell][there] = _loss(got, target[here])
            kl = torch.linalg.vecdot(shares[here], expected[here] - got)
            result.kl[cell][there] = kl.clamp(min=0).cpu()
    return result


def _log_probs(
    passage: Passage, resid_post: Float[Tensor, "row d_model"]
) -> Float[Tensor, "row d_vocab"]:
    return passage.logits(resid_post[None])[0].float().log_softmax(-1)


def _loss(
    log_probs: Float[Tensor, "row d_vocab"], target: Int[Tensor, "row"]
) -> Float[Tensor, "row"]:
    return -log_probs.gather(1, target[:, None])[:, 0].cpu()
