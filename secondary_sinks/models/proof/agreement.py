"""How well two computations of the same states agree, measured by what rounding explains."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.models.proof.expected import Bounds, States, distance


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """Of two computations of one state, at one position."""

    pos: int
    error: float
    """Largest absolute difference, relative to the largest element of the position."""
    share: float
    """The same difference as a share of its bound; more than 1 is a disagreement."""


Agreements = dict[str, Agreement]


def compare(ours: States, theirs: States, bounds: Bounds, *, median: bool = False) -> Agreements:
    """Agreement of every state that both have, by name, in the order of `theirs`.

    Of the worst position, or of the `median` one.
    """
    return {
        name: _agreement(ours[name], state, bounds[name], median)
        for name, state in theirs.items()
        if name in ours
    }


def _agreement(
    ours: Tensor, theirs: Tensor, bound: Float[Tensor, "pos"], median: bool
) -> Agreement:
    apart = distance(ours, theirs)
    shares = torch.where(apart == 0, 0.0, apart / bound)
    ranked = shares.argsort()  # NaN last
    at = int(ranked[(len(ranked) - 1) // 2 if median else -1])
    error = relative_error(ours[at].double(), theirs[at].double())
    return Agreement(pos=at, error=error, share=float(shares[at]))


def relative_error(ours: Float[Tensor, "*shape d"], theirs: Float[Tensor, "*shape d"]) -> float:
    """Largest over positions of max|ours - theirs| / max|theirs|.

    Per position, so that one massive token can't hide errors in the others.
    """
    return float(((ours - theirs).abs().amax(-1) / theirs.abs().amax(-1)).max())
