"""Choose the primary sink, and the reference of each layer, from the measurements.

No position is assumed. The *primary* of a text is the most massive of the tokens that draw the most
attention. It is the *reference* of each layer, which alignment is measured against. At layers where
the primary does not stand out, another token may be the reference: one that draws a comparable
amount of attention, and is as massive as the primary or points in another direction (otherwise it
is a secondary sink that outlives the primary). A primary may thus have several episodes.
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
    """How far each state is from the typical token, and how much attention it draws."""

    deviation_ratio: Float[Tensor, "layer pos"]
    drawn: Float[Tensor, "layer pos"]
    """Mass of the state in the block that reads it, minus the larger of its even share and its
    neighbours' mass, in [0, 1]; 0 if it is not outlying or too few queries see it. No block reads
    the last layer, which has the value of the layer before."""

    @staticmethod
    def of(rows: dict[str, Tensor]) -> "Prominence":
        """From the rows of a trace, by name."""
        limits = Thresholds()
        excess = rows["mass"] - torch.maximum(rows["mass_null"], rows["mass_local"])
        read = read_by_next(excess).clamp(min=0)
        read[-1] = read[-2] if len(read) > 1 else 0.0
        counts = rows["deviation_ratio"] >= limits.outlying
        counts &= rows["queries"] >= limits.min_queries
        return Prominence(deviation_ratio=rows["deviation_ratio"], drawn=read * counts)

    @property
    def massive(self) -> Float[Tensor, "pos"]:
        """Largest deviation ratio of each position, over the layers at which it draws attention."""
        return (self.deviation_ratio * (self.drawn > 0)).amax(0)

    def restrict(self, where: Bool[Tensor, "layer pos"]) -> "Prominence":
        """The same, with no attention drawn elsewhere."""
        return replace(self, drawn=self.drawn * where)


def choose_primary(prominence: Prominence) -> int:
    """Position of the primary: the most massive of those that draw much attention at some layer.

    Much means at least half of the largest amount that any position draws at its best layer. The
    best layer counts, not the sum, because a secondary sink may outlive the primary; the most
    massive wins, because a secondary sink may get all attention at layers without the primary.
    Position 0 if no position draws attention.
    """
    best = prominence.drawn.amax(0)
    return int(prominence.massive.where(best >= HALF * best.max(), -1.0).argmax())


def choose_references(
    prominence: Prominence, primary: int, related: Bool[Tensor, "pos"]
) -> Int[Tensor, "layer"]:
    """The reference of each layer: the primary; another token at layers where it draws nothing.

    The other token must draw at least `Thresholds.another_primary` of what the primary draws at its
    best layer. `related` tokens are sinks along the primary's direction; of these, only one that is
    as massive as the primary (`Thresholds.as_massive`) qualifies.
    """
    reference = torch.full((len(prominence.drawn),), primary)
    massive, limits = prominence.massive, Thresholds()
    minor = related & (massive < limits.as_massive * massive[primary])
    enough = prominence.drawn >= limits.another_primary * prominence.drawn[:, primary].max()
    free = prominence.drawn[:, primary] == 0
    while True:
        eligible = (enough & free[:, None]).any(0) & ~minor
        others = prominence.restrict(eligible & free[:, None])
        pos = choose_primary(others)
        own = others.drawn[:, pos] > 0
        if not bool(own.any()):
            return reference
        reference[own] = pos
        free = free & ~own


def find_references(
    candidates: Candidates, prominence: Prominence, follow: Callable[[list[int]], None]
) -> Int[Tensor, "layer"]:
    """The reference of each layer; `candidates` then has its alignments wherever it stands out.

    `follow` runs one more pass for positions that were not followed so far.
    """
    while True:
        reference = _references(candidates, prominence)
        missing = [
            pos for pos in reference.unique().tolist() if _is_missing(candidates, prominence, pos)
        ]
        if not missing:
            return reference
        follow(missing)


def _references(candidates: Candidates, prominence: Prominence) -> Int[Tensor, "layer"]:
    primary = choose_primary(prominence)
    primary_only = torch.full((len(prominence.drawn),), primary)
    if _is_missing(candidates, prominence, primary):
        return primary_only
    draws = prominence.drawn > 0
    aligned = candidates.rows_against(primary_only)["alignment_centred"] >= Thresholds().aligned
    related = (aligned & draws & draws[:, primary, None]).any(0)
    return choose_references(prominence, primary, related)


def _is_missing(candidates: Candidates, prominence: Prominence, pos: int) -> bool:
    return bool(((prominence.drawn[:, pos] > 0) & ~candidates.followed_layers(pos)).any())
