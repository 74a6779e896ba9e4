"""When a token is a sink, written down again from docs/measures.md and docs/detection.md.

The joint criterion with its default thresholds, on everything that a whole pass computed
(`tools.plain_model`). Nothing here uses our detection.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from tools.plain_model import Pass, replaced_key

ALIGNED, OUTLYING, ATTENDED, MIN_QUERIES = 0.9, 3.0, 2.0, 8
PERSISTS, DRAWS = 3, 0.01
STAYS, AS_MASSIVE, ANOTHER = 0.8, 0.5, 0.25
MOST_TWINS = 4


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """The measures of one pass that the criterion rests on."""

    norm: Float[Tensor, "layer pos"]
    typical: Float[Tensor, "layer d_model"]
    median_deviation: Float[Tensor, "layer"]
    deviation_ratio: Float[Tensor, "layer pos"]
    mass: Float[Tensor, "layer pos"]
    expected: Float[Tensor, "layer pos"]
    n_queries: Int[Tensor, "pos"]


def even_share(n_pos: int) -> Float[Tensor, "pos"]:
    """Mass of each key if every query spreads its attention evenly over the keys that it sees."""
    shares = 1 / torch.arange(1, n_pos + 1)
    return torch.stack([shares[key:].mean() for key in range(n_pos)])


def neighbours(mass: Float[Tensor, "pos"], reach: int = 16) -> Float[Tensor, "pos"]:
    """Median mass of the keys within `reach` positions, at most."""
    around = [mass[max(0, key - reach) : key + reach + 1] for key in range(len(mass))]
    return torch.stack([one.median() for one in around])


def measure(run: Pass) -> Measured:
    """The measures of a pass, layer by layer."""
    n_pos = run.states.shape[1]
    norm = run.states.norm(dim=-1)
    usual = norm <= 2 * norm.median(1, keepdim=True).values
    means = [state[good].mean(0) for state, good in zip(run.states, usual, strict=True)]
    typical = torch.stack(means)
    deviation = (run.states - typical[:, None]).norm(dim=-1)
    middle = deviation.median(1).values
    n_queries = n_pos - torch.arange(n_pos)
    mass = run.weights.mean(1).sum(1) / n_queries
    local = torch.stack([neighbours(row) for row in mass])
    return Measured(
        norm=norm,
        typical=typical,
        median_deviation=middle,
        deviation_ratio=deviation / middle[:, None],
        mass=mass,
        expected=torch.maximum(even_share(n_pos), local),
        n_queries=n_queries,
    )


def next_block(values: Float[Tensor, "layer *shape"]) -> Float[Tensor, "layer *shape"]:
    """What the block that reads each layer has; no block reads the last one, which gets NaN."""
    return torch.cat([values[1:], torch.full_like(values[:1], torch.nan)])


def or_before(values: Tensor) -> Tensor:
    """The last layer, which no block reads, with the value of the layer before."""
    return torch.cat([values[:-1], values[-2:-1]])


class Rule:
    """The criterion for one text: its primary, its sinks, and whether an edited token is one."""

    def __init__(self, run: Pass) -> None:
        """Find the primary and the sinks of a pass."""
        self.run, self.measured = run, measure(run)
        known = self.measured
        outlying = known.deviation_ratio >= OUTLYING
        seen = known.n_queries >= MIN_QUERIES
        beyond = or_before(next_block(known.mass - known.expected)).clamp(min=0)
        self.drawn = beyond * outlying * seen
        self.primary = self._most_massive(self.drawn)
        self.reference = self._references()
        rows = torch.arange(len(self.reference))
        self.directions = run.states[rows, self.reference]
        stands = outlying & self._attended(known.mass, known.expected, known.n_queries)
        self.active = stands[rows, self.reference]

    @cached_property
    def layers(self) -> list[list[int]]:
        """The layers at which each token is a sink, however briefly."""
        mass, states = self.measured.mass, self.run.states
        positions = range(states.shape[1])
        return [self.alive(states[:, at], mass[:, at], at, brief=True) for at in positions]

    def _most_massive(self, drawn: Float[Tensor, "layer pos"]) -> int:
        """The most massive of the tokens that draw at least half of the most that any draws."""
        best = drawn.amax(0)
        massive = (self.measured.deviation_ratio * (drawn > 0)).amax(0)
        return int(massive.where(best >= best.max() / 2, -1.0).argmax())

    def _references(self) -> Int[Tensor, "layer"]:
        """The primary; another token at layers at which the primary draws nothing."""
        drawn, ratio = self.drawn, self.measured.deviation_ratio
        massive = (ratio * (drawn > 0)).amax(0)
        both = (drawn > 0) & (drawn[:, [self.primary]] > 0)
        along = self.cosines(self.run.states, self.run.states[:, self.primary]) >= ALIGNED
        minor = (along & both).any(0) & (massive < AS_MASSIVE * massive[self.primary])
        enough = drawn >= ANOTHER * drawn[:, self.primary].max()
        reference = torch.full((len(drawn),), self.primary)
        free = drawn[:, self.primary] == 0
        while True:
            able = (enough & free[:, None]).any(0) & ~minor
            left = drawn * (able & free[:, None])
            pos = self._most_massive(left)
            own = left[:, pos] > 0
            if not own.any():
                return reference
            reference[own], free = pos, free & ~own

    def cosines(
        self, states: Float[Tensor, "layer *pos d_model"], towards: Float[Tensor, "layer d_model"]
    ) -> Float[Tensor, "layer *pos"]:
        """Cosine with a direction, after the typical token is subtracted from both."""
        typical, towards = self.measured.typical, towards - self.measured.typical
        if states.ndim == 3:
            typical, towards = typical[:, None], towards[:, None]
        return torch.nn.functional.cosine_similarity(states - typical, towards, dim=-1)

    @staticmethod
    def _attended(mass: Tensor, expected: Tensor, n_queries: Tensor) -> Bool[Tensor, "..."]:
        enough = (mass >= ATTENDED * expected) & (n_queries >= MIN_QUERIES)
        return or_before(next_block(enough.float())) > 0

    def alive(
        self,
        state: Float[Tensor, "layer d_model"],
        mass: Float[Tensor, "layer"],
        pos: int,
        *,
        brief: bool = False,
    ) -> list[int]:
        """The layers at which a token with these states and masses is a sink.

        None if it is so too briefly or draws too little, unless `brief`. What it is compared with
        (typical token, medians, primary, expected mass) is that of this text.
        """
        known = self.measured
        aligned = self.cosines(state, self.directions) >= ALIGNED
        deviation = (state - known.typical).norm(dim=-1) / known.median_deviation
        expected = known.expected[:, pos]
        attended = self._attended(mass, expected, known.n_queries[pos])
        stands = (deviation >= OUTLYING) & attended
        joint = stands & aligned & self.active
        joint[-1] &= joint[-2]
        goes_on = stands & ~self.active
        found: list[int] = torch.nonzero(joint)[:, 0].tolist()
        beyond = next_block(mass - expected)
        return found if brief or self._lasts(joint, goes_on, beyond) else []

    @staticmethod
    def _lasts(
        joint: Bool[Tensor, "layer"], goes_on: Bool[Tensor, "layer"], beyond: Float[Tensor, "layer"]
    ) -> bool:
        for first in range(len(joint)):
            rows = slice(first, first + PERSISTS)  # shorter where the last layer cuts it off
            whole = bool((joint | goes_on)[rows].all() and joint[rows].any())
            if whole and float(beyond[rows].nanmean()) >= DRAWS:
                return True
        return False

    def of_pass(self, run: Pass, pos: int, scale: float) -> tuple[bool, bool]:
        """Whether a token is a sink after an edit of this token: by direct effect, and afresh.

        Direct: its states after the edit, and the attention that its new key gets from the queries
        of this text. Afresh: all measures from the edited pass, as if it were a text of its own.
        """
        direct = replaced_key(self.run, run, pos, scale)
        fresh = Rule(run)
        return bool(self.alive(run.states[:, pos], direct, pos)), bool(
            fresh.alive(run.states[:, pos], fresh.measured.mass[:, pos], pos)
        )

    def attended(self, run: Pass, pos: int, scale: float) -> tuple[bool, bool]:
        """Whether a sink draws half of its attention after an edit: by direct effect, and afresh.

        Beyond what is expected, mean over the blocks that read the layers at which it is a sink.
        """
        fresh = measure(run)
        direct = replaced_key(self.run, run, pos, scale) - self.measured.expected[:, pos]
        half = self.draw_of(pos, pos) / 2
        afresh = (fresh.mass - fresh.expected)[:, pos]
        both = [next_block(one)[self.layers[pos]].nanmean() for one in (direct, afresh)]
        return float(both[0]) >= half, float(both[1]) >= half

    def draw_of(self, pos: int, sink: int) -> float:
        """Attention of a token beyond what is expected, mean over the blocks that read a sink."""
        beyond = (self.measured.mass - self.measured.expected)[:, pos]
        return float(next_block(beyond)[self.layers[sink]].nanmean())

    def kind(self, pos: int) -> str:
        """primary, primary_like, secondary or transient; "none" for a token that is no sink."""
        own, known = self.layers[pos], self.measured
        if pos in set(self.reference[self.active].tolist()):
            return "primary"
        if not own:
            return "none"
        if not self.alive(self.run.states[:, pos], known.mass[:, pos], pos):
            return "transient"
        active = torch.nonzero(self.active)[:, 0].tolist()
        stays = len(set(own) & set(active)) >= STAYS * len(active)
        theirs = known.deviation_ratio[torch.arange(len(self.reference)), self.reference]
        relative = (known.deviation_ratio[:, pos] / theirs)[own].median()
        like = stays and (own[0] <= active[0] or float(relative) >= AS_MASSIVE)
        return "primary_like" if like else "secondary"

    def twins(self, ids: Sequence[int], pos: int) -> list[int]:
        """The nearest tokens with the same id that are never a sink and that enough queries see."""
        references = set(self.reference.tolist()) | {self.primary}
        same = [at for at, one in enumerate(ids) if one == ids[pos] and at not in references]
        able = [at for at in same if not self.layers[at]
                and int(self.measured.n_queries[at]) >= MIN_QUERIES]  # fmt: skip
        return sorted(able, key=lambda at: (abs(at - pos), at))[:MOST_TWINS]
