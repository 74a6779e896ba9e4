"""What a model predicts from clean and edited residuals: loss of the next token, divergence."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import cross_entropy

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
    """KL(clean || edited), the same; as cross-entropy less entropy, so rounded to some 1e-6."""


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
        expected = _predict(passage, clean[first:end])
        result.clean[first:end] = expected.loss(target)
        shares = (expected.logits - expected.log_sum[:, None]).exp_()
        entropy = expected.log_sum - _dot(shares, expected.logits)
        for cell, state in edited.items():
            start = len(tokens) - len(state)
            begin = max(first, start)
            if begin >= end:
                continue
            got = _predict(passage, state[begin - start : end - start])
            there, here = slice(begin - start, end - start), slice(begin - first, end - first)
            result.edited[cell][there] = got.loss(target[here])
            cross = got.log_sum - _dot(shares[here], got.logits)
            result.kl[cell][there] = (cross - entropy[here]).clamp(min=0).cpu()
    return result


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prediction:
    """Logits, and the log of the sum of their exponentials."""

    logits: Float[Tensor, "row d_vocab"]
    log_sum: Float[Tensor, "row"]

    def loss(self, target: Int[Tensor, "row"]) -> Float[Tensor, "row"]:
        return (self.log_sum - self.logits.gather(1, target[:, None])[:, 0]).cpu()


def _predict(passage: Passage, resid_post: Float[Tensor, "row d_model"]) -> _Prediction:
    logits = passage.logits(resid_post[None])[0].float()
    first = logits.new_zeros(len(logits), dtype=torch.long)
    # Several times as fast as `logsumexp`, which makes more passes over the logits.
    log_sum = cross_entropy(logits, first, reduction="none") + logits[:, 0]
    return _Prediction(logits=logits, log_sum=log_sum)


def _dot(a: Float[Tensor, "row n"], b: Float[Tensor, "row n"]) -> Float[Tensor, "row"]:
    return torch.einsum("rn,rn->r", a, b)
