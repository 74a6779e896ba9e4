"""Which token is the primary sink, layer by layer? Chosen when all is measured, never assumed.

The *primary* of a text is the most massive of the tokens that draw most attention. It is the
*reference* of every layer: what alignment is measured against. Only where the primary does not
stand out, another token may be the reference: one that draws a comparable amount of attention
there, and is as massive as the primary or points elsewhere (else it is a secondary sink that goes
on). So a primary may have several episodes, and different tokens may take turns.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from secondary_sinks.observation.candidates import Candidates
from secondary_sinks.types import Thresholds, read_by_next

HALF = 0.5


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prominence:
    """How far each state stands out, and how much attention it draws."""

    deviation_ratio: Float[Tensor, "layer pos"]
    drawn: Float[Tensor, "layer pos"]
    """Mass of the state in the block that reads it, beyond its even share and beyond what its
    neighbours get, in [0, 1]; 0 where it does not stand out or too few queries see it. No block
    reads the last state: there it is that of the layer before."""

    @staticmethod
    def of(rows: dict[str, Tensor]) -> "Prominence":
        """From the measures of a trace, by name."""
        limits = Thresholds()
        excess = rows["mass"] - torch.maximum(rows["mass_null"], rows["mass_local"])
        read = read_by_next(excess).clamp(min=0)
        read[-1] = read[-2] if len(read) > 1 else 0.0
        counts = rows["deviation_ratio"] >= limits.outlying
        counts &= rows["queries"] >= limits.min_queries
        return Prominence(deviation_ratio=rows["deviation_ratio"], drawn=read * counts)

    @property
    def massive(self) -> Float[Tensor, "pos"]:
        """How far each position stands out at most, where it draws attention."""
        return (self.deviation_ratio * (self.drawn > 0)).amax(0)

    def only(self, where: Bool[Tensor, "layer pos"]) -> "Prominence":
        """As if no other state drew anything."""
        return replace(self, drawn=self.drawn * where)


def choose_primary(standing: Prominence) -> int:
    """The most massive of the positions that draw, at their best layer, half of the most or more.

    The first position where nothing draws anything. At the best layer, not over all, since a
    secondary sink may outlive the primary; the most massive, since where the primary is off for
    a few layers, a secondary sink may have all attention to itself.
    """
    best = standing.drawn.amax(0)
    return int(standing.massive.where(best >= HALF * best.max(), -1.0).argmax())


def choose_references(
    standing: Prominence, primary: int, related: Bool[Tensor, "pos"]
) -> Int[Tensor, "layer"]:
    """The reference of each layer: the primary, and where it draws nothing, perhaps another token.

    Another one must draw at least `Thresholds.another_primary` of what the primary draws at its
    best layer. `related` tokens are sinks along the primary's own direction: of these, only one
    that is as massive as the primary (`Thresholds.as_massive`) can be another primary.
    """
    reference = torch.full((len(standing.drawn),), primary)
    massive, limits = standing.massive, Thresholds()
    minor = related & (massive < limits.as_massive * massive[primary])
    enough = standing.drawn >= limits.another_primary * standing.drawn[:, primary].max()
    free = standing.drawn[:, primary] == 0
    while True:
        able = (enough & free[:, None]).any(0) & ~minor
        standing_in = standing.only(able & free[:, None])
        pos = choose_primary(standing_in)
        own = standing_in.drawn[:, pos] > 0
        if not bool(own.any()):
            return reference
        reference[own] = pos
        free = free & ~own


def find_references(
    candidates: Candidates, standing: Prominence, follow: Callable[[list[int]], None]
) -> Int[Tensor, "layer"]:
    """The reference of each layer, with its alignments in `candidates` wherever it stands out.

    Where a token that matters was not followed, `follow` must see to it, in a pass of its own.
    """
    while True:
        reference = _references(candidates, standing)
        missing = [pos for pos in reference.unique().tolist() if _lacks(candidates, standing, pos)]
        if not missing:
            return reference
        follow(missing)


def _references(candidates: Candidates, standing: Prominence) -> Int[Tensor, "layer"]:
    primary = choose_primary(standing)
    alone = torch.full((len(standing.drawn),), primary)
    if _lacks(candidates, standing, primary):
        return alone
    draws = standing.drawn > 0
    aligned = candidates.of(alone)["alignment_centred"] >= Thresholds().aligned
    related = (aligned & draws & draws[:, primary, None]).any(0)
    return choose_references(standing, primary, related)


def _lacks(candidates: Candidates, standing: Prominence, pos: int) -> bool:
    return bool(((standing.drawn[:, pos] > 0) & ~candidates.known(pos)).any())
