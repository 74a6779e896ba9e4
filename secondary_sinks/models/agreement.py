"""How well two computations of the same states agree, measured by what rounding explains."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.models.expected import Bounds, States, distance


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of two computations of one state, at the position where they agree worst."""

    pos: int
    error: float
    """Largest absolute difference, relative to the largest element of the position."""
    share: float
    """The same difference as a share of its bound; more than 1 is a disagreement."""


Agreements = dict[str, Agreement]


def compare(ours: States, theirs: States, bounds: Bounds) -> Agreements:
    """Agreement of every state that both have, by name, in the order of `theirs`."""
    return {
        name: _agreement(ours[name], state, bounds[name])
        for name, state in theirs.items()
        if name in ours
    }


def _agreement(ours: Tensor, theirs: Tensor, bound: Float[Tensor, "pos"]) -> Agreement:
    """In half precision the median position is judged: rounding alone may turn a single one over.

    There an expert of a mixture is chosen by a hair. What is wrong with a model is wrong with most
    positions.
    """
    half = ours.dtype in (torch.bfloat16, torch.float16)
    apart = distance(ours, theirs)
    shares = torch.where(apart == 0, 0.0, apart / bound)
    at = int(shares.argsort()[(len(shares) - 1) // 2] if half else shares.argmax())
    return Agreement(
        pos=at, error=float(relative_errors(ours, theirs)[at]), share=float(shares[at])
    )


def relative_error(ours: Float[Tensor, "*shape d"], theirs: Float[Tensor, "*shape d"]) -> float:
    """Largest over positions of max|ours - theirs| / max|theirs|.

    Per position, so that one massive token can't hide errors in the others.
    """
    return float(relative_errors(ours, theirs).max())


def relative_errors(
    ours: Float[Tensor, "*shape d"], theirs: Float[Tensor, "*shape d"]
) -> Float[Tensor, "*shape"]:
    """max|ours - theirs| / max|theirs| of each position."""
    return (ours - theirs).abs().amax(-1) / theirs.abs().amax(-1)
