"""Effects of edits, and verdicts."""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from secondary_sinks.display import (
    Displayed,
    Listed,
    card_html,
    count,
    percent_or_number,
    table_html,
    tally,
)
from secondary_sinks.errors import EditError
from secondary_sinks.types.frames import tidy

if TYPE_CHECKING:
    import pandas as pd


SHARE_UNIT = "share"
"""Unit of a number from 0 to 1 (a difference of two: -1 to 1) that is shown in per cent."""


def number_and_interval(value: float, low: float, high: float, unit: str) -> str:
    """A number with its interval, if it has one: "74% [51%, 90%]"; empty for NaN.

    >>> number_and_interval(-0.003, -0.01, 0.03, SHARE_UNIT)
    '0% [-1%, 3%]'
    """
    if math.isnan(value):
        return ""
    ends = [percent_or_number(end, share=unit == SHARE_UNIT) for end in (value, low, high)]
    return ends[0] if math.isnan(low) else f"{ends[0]} [{ends[1]}, {ends[2]}]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Effect of one edit on the edited token.

    Alignment and norm are effects on its state, and exact. Mass, and so lifetime, is the *direct*
    effect: the queries of later tokens are those of the clean run. Alignments, norms and masses are
    means over the layers of the sink (for a control, of its matched sink); masses are those in the
    blocks that read these layers.
    """

    text_id: str
    pos: int
    token_id: int
    token: str
    role: str
    """sink or control."""
    kind: str
    """Kind of the sink; for a control, twin (same token id), neighbour, or ordinary (a further one
    of similar position and norm)."""
    sink_pos: int
    """Position of the sink; for a control, of its matched sink."""
    layer: int
    """Layer of the edit, from 0."""
    site: str
    """Hook point of the edit, such as mlp_out."""
    edit: str
    """Label of the edit, such as "zero"."""
    effect: str
    """How later queries are treated: direct (as in the clean run) or total (recomputed)."""
    lifetime_clean: int
    """Number of layers at which the token is a sink; 0 if it is not one, or transient."""
    lifetime_edited: int
    """The same after the edit."""
    l_start_clean: float
    """Creation layer; NaN if the token is not a sink."""
    l_start_edited: float
    alignment_clean: float
    alignment_edited: float
    alignment_centred_clean: float
    alignment_centred_edited: float
    norm_clean: float
    norm_edited: float
    mass_clean: float
    mass_edited: float
    kl_at_token: float = math.nan
    """Damage: KL(clean || edited) in nats of the model's next-token prediction at the edited token;
    NaN where it was not measured."""
    impossible: str = "unknown"
    """What this edit comes too late for: none; end (it cannot end the sink); weaken (nor take a
    tenth of its attention); loss (nor any). For a control: what it is too late for at its sink."""


_SHOWN = (
    *("text_id", "pos", "token", "role", "layer", "edit", "lifetime_clean", "lifetime_edited"),
    *("mass_clean", "mass_edited", "kl_at_token"),
)
"""Columns that a notebook shows."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Effects(Listed[Effect]):
    """Effects of many edits: a sequence of rows, of which a slice is `Effects` again."""

    _items = "rows"
    rows: tuple[Effect, ...]

    def __post_init__(self) -> None:
        """Raises `EditError` for what are no effects."""
        if not isinstance(self.rows, list | tuple) or any(
            not isinstance(row, Effect) for row in self.rows
        ):
            raise EditError(f"rows is {self.rows!r:.60}", "expected a tuple of Effect(...)")
        object.__setattr__(self, "rows", tuple(self.rows))

    def _line(self) -> str:
        tokens = {(row.text_id, row.pos): row.role for row in self.rows}
        layers = count(len({row.layer for row in self.rows}), "layer")
        edits = ", ".join(dict.fromkeys(row.edit for row in self.rows))
        return f"{count(len(self), 'cell')}: {tally(tokens.values())}; {layers}; {edits}"

    def _html(self) -> str:
        return table_html(self.to_frame(), _SHOWN)

    def to_frame(self) -> "pd.DataFrame":
        """One row per cell (text x token x layer x edit)."""
        return tidy([asdict(row) for row in self.rows], Effect)

    @staticmethod
    def join(parts: Iterable["Effects"]) -> "Effects":
        """The rows of several tables, in order."""
        return Effects(rows=tuple(row for part in parts for row in part.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEffect:
    """Effect of ablating one layer on sinks, compared with its effect on their controls.

    Counts only sinks on which the ablation could have had the effect: those that the layer could
    have ended, or, for effects of later layers, existing sinks that it could have weakened. Without
    any such sink, `n_sinks` is 0 and the effect is NaN. Masses are in units of the sinks' clean
    mass (`mass_lost`).
    """

    layer: int
    lost: float
    """Mass lost by sinks minus that lost by their controls: median over texts."""
    low: float
    """Lower end of its interval; NaN with too few texts."""
    high: float
    sinks_lost: float
    """Mass that sinks lose; 1 is all."""
    sinks_low: float = math.nan
    """Lower end of the interval of the mass that sinks lose: median over texts."""
    controls_lost: float
    """Mass that their token twins, or else neighbours, lose."""
    ordinary_lost: float = math.nan
    """Mass that ordinary tokens of similar position and norm lose; NaN where none were tried."""
    removed: float
    """Share of sinks whose lifetime becomes 0; mean over texts."""
    removed_low: float
    """Lower end of its interval."""
    removed_high: float
    shortened: float = math.nan
    """Share of sinks whose lifetime falls, to 0 or not."""
    prolonged: float
    """Share of all secondary sinks with a control whose lifetime grows."""
    n_sinks: int
    """Secondary sinks with a control that the ablation could have affected: those counted here."""
    n_unmatched: int
    """Secondary sinks without a control, which were left out."""
    n_texts: int
    n_impossible: int = 0
    """Secondary sinks with a control that this ablation comes too late to affect; left out."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Verdict(Displayed):
    """Whether a claim is supported, contradicted or undecided, with the numbers that decide.

    supported: the interval lies above `line` (for the weakening of the primary, below);
    contradicted: on the other side; inconclusive: otherwise. Some claims ask for more: see the
    question that gives the verdict.
    """

    claim: str
    outcome: str
    """supported, contradicted or inconclusive."""
    why: str
    """The reason, in words."""
    statistic: str
    """What `value` is, in words."""
    value: float
    """NaN if nothing could be measured."""
    low: float
    """Lower end of the interval of `value`, over texts; NaN with too few of them."""
    high: float
    confidence: float
    """Probability that all `n_claims` intervals hold together: 0.95."""
    controls: str
    """What the effect is compared with, and how many sinks were left out, in words."""
    n_sinks: int
    n_texts: int
    layer: int | None = None
    """The layer whose MLP the claim is about; None if it is about no single layer."""
    general: str = ""
    """The same claim without its layer, where it names one: alike for all layers and models."""
    unit: str = ""
    """Unit of value, low and high: `SHARE_UNIT` for shares of a whole; empty for plain numbers."""
    line: float = 0.5
    """The threshold that the interval is compared with."""
    n_claims: int = 1
    """Number of claims in the report that the interval is corrected for: all of them hold
    together at `confidence`."""
    n_controls: int | None = None
    """Number of sinks with a control that could have ended them too (other MLPs at the same sink);
    None where the claim has no controls of that kind."""
    lacks: str = ""
    """That there are too few sinks or texts, and how many there should be; else empty."""
    found: str = ""
    """What was found in too few sinks or texts: `why` says it, then what the verdict lacks."""
    counted: str = "sink"
    """What `n_sinks` counts, in the singular."""
    grouped: str = "text"
    """What `n_texts` counts: independent of each other."""

    @property
    def number(self) -> str:
        """The value and its interval as they are said: "74% [51%, 90%]"; empty without a value."""
        return number_and_interval(self.value, self.low, self.high, self.unit)

    def to_frame(self) -> "pd.DataFrame":
        """One row, one column per field."""
        import pandas as pd

        return pd.DataFrame([asdict(self)])

    def _line(self) -> str:
        return f"{self.outcome}: {self.claim}" + (f"; {self.number}" if self.number else "")

    def _html(self) -> str:
        sample = f"{count(self.n_sinks, self.counted)} in {count(self.n_texts, self.grouped)}"
        number = f"{self.statistic}: {self.number}, {sample}" if self.number else ""
        return card_html(self.outcome, self.claim, [self.why, number, self.controls])


Masses = TypeVar("Masses")
"""A number, or a column of them."""


def mass_lost(clean: Masses, edited: Masses, sink_clean: Masses) -> Masses:
    """Attention mass that a token loses, in units of the clean mass of the sink in question.

    `clean` and `edited` are masses of the edited token: a sink, or its control. A control draws
    about an even share, so that a share of *its own* mass would be mostly noise; in units of the
    sink's mass a number means the same attention at both. 1 is all that the sink draws; negative
    is a gain. NaN where the sink draws nothing.

    >>> round(float(mass_lost(0.2, 0.05, 0.2)), 3), round(float(mass_lost(0.003, 0.002, 0.2)), 3)
    (0.75, 0.005)
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        unit = np.where(np.asarray(sink_clean) > 0, sink_clean, np.nan)  # type: ignore[call-overload]
        return (clean - edited) / unit  # type: ignore[operator]
