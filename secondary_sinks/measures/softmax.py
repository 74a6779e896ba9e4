"""Exact update of a softmax in which a single key is replaced."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

HALF, SURELY = 0.5, 0.6
"""A key that takes more than `HALF` is stored apart; it is looked up from `SURELY` on. In between
either way is exact, so that rounding cannot choose the wrong one."""
LEAST = 1e-30
"""Below this share the rest of a softmax is computed from scores, since float32 ends at 1e-45."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Denominator:
    """The denominator of a softmax over keys, from which any one key can be removed.

    A sink can take 0.99999 of a head's attention; subtracting its share from a single sum would
    leave rounding errors only. So the sum without the key that takes more than half is stored too.
    """

    log_sum: Float[Tensor, "head query"]
    """log of the sum of exp(score) over all keys: the log denominator."""
    log_rest: Float[Tensor, "head query"]
    """The same without the key that takes more than half, if there is one; -inf without others."""

    @staticmethod
    def of(scores: Float[Tensor, "head query key"]) -> "Denominator":
        """From scores before the softmax, with -inf for keys that a query cannot see."""
        scores = scores.float()
        log_sum = scores.logsumexp(-1)
        largest, at = scores.max(-1)
        rest = scores.scatter(-1, at[..., None], -torch.inf).logsumexp(-1)
        dominates = largest - log_sum > math.log(HALF)
        return Denominator(log_sum=log_sum, log_rest=torch.where(dominates, rest, log_sum))

    @staticmethod
    def from_softmax(
        scores: Float[Tensor, "head query key"],
        pattern: Float[Tensor, "head query key"],
        workspace: Float[Tensor, "head query key"],
    ) -> "Denominator":
        """The same from scores and their softmax in float32, at a small part of the cost.

        `workspace` is overwritten. `of` is its oracle.
        """
        log_sum = scores.amax(-1) - pattern.amax(-1).log()
        rest = torch.mul(pattern, pattern <= HALF, out=workspace).sum(-1)
        log_rest = log_sum + rest.log()
        tiny = rest < LEAST
        if tiny.any():
            log_rest[tiny] = Denominator.of(scores[tiny][None]).log_rest[0]
        return Denominator(log_sum=log_sum, log_rest=log_rest)

    @staticmethod
    def join(chunks: Sequence["Denominator"]) -> "Denominator":
        """The denominators of all queries, from those of consecutive chunks."""
        return Denominator(
            log_sum=torch.cat([chunk.log_sum for chunk in chunks], dim=1),
            log_rest=torch.cat([chunk.log_rest for chunk in chunks], dim=1),
        )

    @staticmethod
    def stack(groups: Sequence["Denominator"]) -> "Denominator":
        """The denominators of all heads, from those of consecutive groups of heads."""
        return Denominator(
            log_sum=torch.cat([group.log_sum for group in groups]),
            log_rest=torch.cat([group.log_rest for group in groups]),
        )

    def of_queries(self, queries: slice) -> "Denominator":
        """The denominators of some queries."""
        return Denominator(log_sum=self.log_sum[:, queries], log_rest=self.log_rest[:, queries])

    def with_extra(self, score: Float[Tensor, "head"]) -> "Denominator":
        """With one more term per head that does not belong to a key: a learned sink."""
        extra = score.float()[:, None]
        return Denominator(
            log_sum=torch.logaddexp(self.log_sum, extra),
            log_rest=torch.logaddexp(self.log_rest, extra),
        )

    def without(self, scores: Float[Tensor, "head query cell"]) -> Float[Tensor, "head query cell"]:
        """log of the sum over all keys except one, for keys with the given scores.

        NaN or -inf for a query that sees no other key.
        """
        share = (scores.float() - self.log_sum[..., None]).exp()
        rest = self.log_sum[..., None] + torch.log1p(-share.clamp(max=SURELY))
        return torch.where(share > SURELY, self.log_rest[..., None], rest)


def attention_to_replaced_key(
    new_score: Float[Tensor, "*shape"], log_others: Float[Tensor, "*#shape"]
) -> Float[Tensor, "*shape"]:
    """Attention of a query to a key after its score is replaced by `new_score`, in [0, 1].

    exp(s) / (exp(log_others) + exp(s)), where `log_others` is `Denominator.without`: the other
    keys keep their scores.

    >>> import torch
    >>> scores = torch.tensor([[[1.0, 2.0, 3.0]]])
    >>> others = Denominator.of(scores).without(scores[..., 2:])
    >>> new = attention_to_replaced_key(torch.tensor([[[0.5]]]), others)
    >>> torch.allclose(new.squeeze(), torch.tensor([1.0, 2.0, 0.5]).softmax(0)[2])
    True
    """
    return torch.sigmoid(new_score.float() - log_others)
