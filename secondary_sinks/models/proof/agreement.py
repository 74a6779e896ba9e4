"""Agreement of two computations of the same states, relative to the effect of rounding."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.models.proof.expected import Bounds, States, largest_difference


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Agreement of two computations of one state, at one position."""

    pos: int
    error: float
    """Largest absolute difference, relative to the largest element at this position."""
    share: float
    """Largest absolute difference, relative to its bound; more than 1 is a disagreement."""


Agreements = dict[str, Agreement]


def compare(ours: States, theirs: States, bounds: Bounds, *, median: bool = False) -> Agreements:
    """Agreement of each state that both have, by name, in the order of `theirs`.

    It is that of the worst position or, with `median`, of the median position.
    """
    return {
        name: _agreement(ours[name], state, bounds[name], median)
        for name, state in theirs.items()
        if name in ours
    }


def _agreement(
    ours: Tensor, theirs: Tensor, bound: Float[Tensor, "pos"], median: bool
) -> Agreement:
    difference = largest_difference(ours, theirs)
    shares = torch.where(difference == 0, 0.0, difference / bound)
    ranked = shares.argsort()  # NaN last
    pos = int(ranked[(len(ranked) - 1) // 2 if median else -1])
    error = relative_error(ours[pos].double(), theirs[pos].double())
    return Agreement(pos=pos, error=error, share=float(shares[pos]))


def relative_error(ours: Float[Tensor, "*shape d"], theirs: Float[Tensor, "*shape d"]) -> float:
    """Maximum over positions of max|ours - theirs| / max|theirs|.

    It is relative to each position, so that one massive token cannot hide errors at others.
    """
    return float(((ours - theirs).abs().amax(-1) / theirs.abs().amax(-1)).max())
