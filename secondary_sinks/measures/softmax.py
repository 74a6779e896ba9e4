"""Exact update of a softmax in which a single key is replaced."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Denominator:
    """The denominator of a softmax over keys, from which any one key can be removed.

    A sink can take 0.99999 of a head's attention; subtracting its share from a single sum would
    leave rounding errors only. So the largest score is stored apart from the rest.
    """

    largest: Float[Tensor, "head query"]
    at: Int[Tensor, "head query"]
    """Index of the key with the largest score."""
    log_rest: Float[Tensor, "head query"]
    """log of the sum of exp(score) over all other keys; -inf without other keys."""

    @property
    def log_sum(self) -> Float[Tensor, "head query"]:
        """log of the sum of exp(score) over all keys: the log denominator."""
        return torch.logaddexp(self.largest, self.log_rest)

    @staticmethod
    def of(scores: Float[Tensor, "head query key"]) -> "Denominator":
        """From scores before the softmax, with -inf for keys that a query cannot see."""
        scores = scores.float()
        largest, at = scores.max(-1)
        rest = scores.scatter(-1, at[..., None], -torch.inf).logsumexp(-1)
        return Denominator(largest=largest, at=at, log_rest=rest)

    @staticmethod
    def join(chunks: Sequence["Denominator"]) -> "Denominator":
        """The denominators of all queries, from those of consecutive chunks."""
        return Denominator(
            largest=torch.cat([chunk.largest for chunk in chunks], dim=1),
            at=torch.cat([chunk.at for chunk in chunks], dim=1),
            log_rest=torch.cat([chunk.log_rest for chunk in chunks], dim=1),
        )

    @staticmethod
    def stack(groups: Sequence["Denominator"]) -> "Denominator":
        """The denominators of all heads, from those of consecutive groups of heads."""
        return Denominator(
            largest=torch.cat([group.largest for group in groups]),
            at=torch.cat([group.at for group in groups]),
            log_rest=torch.cat([group.log_rest for group in groups]),
        )

    def with_extra(self, score: Float[Tensor, "head"]) -> "Denominator":
        """With one more term per head that does not belong to a key: a learned sink."""
        rest = torch.logaddexp(self.log_rest, score.float()[:, None])
        return Denominator(largest=self.largest, at=self.at, log_rest=rest)

    def without(
        self, keys: Int[Tensor, "cell"], scores: Float[Tensor, "head query cell"]
    ) -> Float[Tensor, "head query cell"]:
        """log of the sum over all keys except one, for each of `keys` with the given scores."""
        largest, rest = self.largest[..., None], self.log_rest[..., None]
        share = (scores.float() - rest).exp().clamp(max=1)
        rest_without = rest + torch.log1p(-share)
        return torch.where(self.at[..., None] == keys, rest, torch.logaddexp(largest, rest_without))


def attention_to_replaced_key(
    new_score: Float[Tensor, "*shape"], log_others: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Attention of a query to a key after its score is replaced by `new_score`, in [0, 1].

    exp(s) / (exp(log_others) + exp(s)), where `log_others` is `Denominator.without(key)`: the other
    keys keep their scores.

    >>> import torch
    >>> scores = torch.tensor([[[1.0, 2.0, 3.0]]])
    >>> others = Denominator.of(scores).without(torch.tensor([2]), scores[..., 2:])
    >>> new = attention_to_replaced_key(torch.tensor([[[0.5]]]), others)
    >>> torch.allclose(new.squeeze(), torch.tensor([1.0, 2.0, 0.5]).softmax(0)[2])
    True
    """
    return torch.sigmoid(new_score.float() - log_others)
