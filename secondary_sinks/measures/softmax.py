"""Exact update of a softmax in which a single key is replaced."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

HALF, SURELY = 0.5, 0.6
"""A key that takes more than `HALF` is stored apart; it is looked up from `SURELY` on. In between
either way is exact, so that rounding cannot choose the wrong one."""


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
        """From scores before the softmax, with -inf for keys that a query cannot see.

        A learned sink is one more key.
        """
        scores = scores.float()
        log_sum = scores.logsumexp(-1)
        largest, at = scores.max(-1)
        rest = scores.scatter(-1, at[..., None], -torch.inf).logsumexp(-1)
        dominates = largest - log_sum > math.log(HALF)
        return Denominator(log_sum=log_sum, log_rest=torch.where(dominates, rest, log_sum))

    def without(self, scores: Float[Tensor, "head query cell"]) -> Float[Tensor, "head query cell"]:
        """log of the sum over all keys except one, for keys with the given scores.

        NaN or -inf for a query that sees no other key.
        """
        share, rest = share_and_rest(scores, self.log_sum[..., None])
        return torch.where(share > SURELY, self.log_rest[..., None], rest)


def share_and_rest(
    scores: Float[Tensor, "*shape"], log_sum: Float[Tensor, "*#shape"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Attention to keys with the given scores, and log of the denominator without each of them.

    The second is mostly rounding where the first is more than `SURELY`.
    """
    share = (scores.float() - log_sum).exp()
    return share, log_sum + torch.log1p(-share.clamp(max=SURELY))


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
