"""The frozen results that walk between rooms.

Layers are 0-based and "at layer l" means `resid_post` of block l, the state that block l wrote.
That state is first read by the attention of block l + 1: the mass that a sink draws at layer l
is therefore `mass[l + 1]`. Tensors are on the CPU in float32; missing is NaN.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Thresholds:
    """When a token counts as a sink at a layer; the same for every model.

    A sink is aligned, outlying and attended at once, so each single test can be mild. They are
    round numbers: an aligned token has at least twice as much along the primary's direction as
    across it, an outlying one stands three times as far from the typical token as tokens
    usually do, an attended one gets twice its even share.
    """

    aligned: float = 0.9
    """Least centred, signed cosine with the primary (the paper uses 0.9, raw and unsigned)."""
    outlying: float = 3.0
    """Least distance from the typical token, in medians of that distance over the text."""
    attended: float = 2.0
    """Least attention mass, in multiples of the uniform null and of the neighbours' median."""
    min_queries: int = 8
    """Queries that must see a key before its mass says anything; fewer is noise of single rows."""
    primary_like: float = 0.8
    """Share of the primary's layers from which on a sink that arises with it is primary-like."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """What one streaming pass measured of one text: a few numbers per layer and position."""

    text_id: str
    tokens: Int[Tensor, "pos"]
    token_strings: tuple[str, ...]
    primary: int
    """Position of the primary sink (the likeliest one: `detect` says where it is active)."""
    norm: Float[Tensor, "layer pos"]
    """Length of resid_post."""
    norm_ratio: Float[Tensor, "layer pos"]
    """The same in medians over the text."""
    deviation_ratio: Float[Tensor, "layer pos"]
    """Distance of resid_post from the typical token, in medians over the text."""
    alignment: Float[Tensor, "layer pos"]
    """Signed cosine of resid_post with the primary's."""
    alignment_centred: Float[Tensor, "layer pos"]
    """The same after the typical token is subtracted from both."""
    mass: Float[Tensor, "layer pos"]
    """Attention mass in block l: mean over the queries that see the key and over heads."""
    mass_null: Float[Tensor, "layer pos"]
    """Mass under evenly spread attention."""
    mass_local: Float[Tensor, "layer pos"]
    """Median mass of the keys within 16 positions."""
    queries: Int[Tensor, "layer pos"]
    """Number of queries that see the key."""
    virtual_mass: Float[Tensor, "layer"]
    """Attention that goes to no token (learned sinks), mean over queries and heads."""
    key_norm: Float[Tensor, "layer pos"]
    """Length of the key as the scores use it (after q/k norm and rotation), mean over KV heads."""
    value_norm: Float[Tensor, "layer pos"]
    """Length of the value, mean over KV heads."""
    mlp_norm: Float[Tensor, "layer pos"]
    """Length of the MLP's output."""
    mlp_alignment: Float[Tensor, "layer pos"]
    """Signed cosine of the MLP's output with the primary's resid_post at the same layer."""
    typical: Float[Tensor, "layer d_model"]
    """The typical token: mean resid_post of ordinary positions."""
    median_norm: Float[Tensor, "layer"]
    """Median over the text of `norm`."""
    median_deviation: Float[Tensor, "layer"]
    """Median over the text of the distance from the typical token."""
    primary_resid: Float[Tensor, "layer d_model"]
    """resid_post of the primary; NaN before it stood out (see `observation.candidates`)."""

    @property
    def mass_excess(self) -> Float[Tensor, "layer pos"]:
        """Mass beyond the uniform null."""
        return self.mass - self.mass_null

    @property
    def mass_expected(self) -> Float[Tensor, "layer pos"]:
        """What a key at its place gets: its even share, or its neighbours' mass if that is more."""
        return torch.maximum(self.mass_null, self.mass_local)

    @property
    def mass_read(self) -> Float[Tensor, "layer pos"]:
        """Mass drawn by the state at layer l, in block l + 1 that reads it; NaN at the last."""
        return read_by_next(self.mass)

    def to_frame(self) -> "pd.DataFrame":
        """One row per layer and position, one column per measure."""
        import pandas as pd

        n_layers, n_pos = self.norm.shape
        columns: dict[str, Any] = {
            "text_id": self.text_id,
            "layer": torch.arange(n_layers).repeat_interleave(n_pos).numpy(),
            "pos": torch.arange(n_pos).repeat(n_layers).numpy(),
            "token_id": self.tokens.repeat(n_layers).numpy(),
            "token": list(self.token_strings) * n_layers,
        }
        for name in LAYER_POS:
            columns[name] = getattr(self, name).reshape(-1).numpy()
        return pd.DataFrame(columns)


LAYER_POS = (
    "norm",
    "norm_ratio",
    "deviation_ratio",
    "alignment",
    "alignment_centred",
    "mass",
    "mass_excess",
    "mass_local",
    "queries",
    "key_norm",
    "value_norm",
    "mlp_norm",
    "mlp_alignment",
)
"""The measures of a `Trace` by layer and position, in the order of `Trace.to_frame`."""


def read_by_next(mass: Float[Tensor, "layer *shape"]) -> Float[Tensor, "layer *shape"]:
    """Shift masses one layer down: from the block that attends to the state it attends to."""
    return torch.cat([mass[1:].float(), torch.full_like(mass[:1], torch.nan, dtype=torch.float32)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """One sink of one text. Maxima are over the sink's own layers."""

    text_id: str
    pos: int
    token_id: int
    token: str
    kind: str
    """primary, primary_like (arises with the primary and stays) or secondary."""
    criterion: str
    l_start: int
    """Creation layer: the first layer at which it is a sink."""
    l_end: int
    """The last layer at which it is a sink."""
    lifetime: int
    """Number of layers at which it is a sink (gaps don't count)."""
    layers: tuple[int, ...]
    level: int
    """Sink level: cluster of (l_start, lifetime) over all texts; 0 is the earliest. -1: primary."""
    censored: str
    """none, left (a sink at layer 0 already), right (still one at the last layer) or both."""
    alignment_max: float
    alignment_centred_max: float
    norm_max: float
    norm_ratio_max: float
    mass_max: float
    """Largest mass drawn by the sink's states (by the blocks that read them)."""
    mass_excess_max: float

    @property
    def segments(self) -> str:
        """Runs of layers, for example "2-8, 11-28"."""
        return format_layers(self.layers)


def format_layers(layers: Sequence[int]) -> str:
    """Runs of consecutive layers in words.

    >>> format_layers([2, 3, 4, 8])
    '2-4, 8'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkTable:
    """Sinks of one or more texts, with the thresholds that made them."""

    sinks: tuple[Sink, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)

    def of_kind(self, *kinds: str) -> "SinkTable":
        """The sinks of the given kinds."""
        kept = tuple(sink for sink in self.sinks if sink.kind in kinds)
        return SinkTable(sinks=kept, thresholds=self.thresholds)

    def of_text(self, text_id: str) -> "SinkTable":
        """The sinks of one text."""
        kept = tuple(sink for sink in self.sinks if sink.text_id == text_id)
        return SinkTable(sinks=kept, thresholds=self.thresholds)

    def to_frame(self) -> "pd.DataFrame":
        """One row per sink; `layers` in words, as `segments`."""
        rows = [asdict(sink) | {"layers": sink.segments} for sink in self.sinks]
        return _frame(rows, Sink).rename(columns={"layers": "segments"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A change of one activation of one token at one layer, as plain data."""

    pos: int
    layer: int
    kind: str = "zero"
    site: str = "mlp_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What one edit does to the edited token.

    Alignment, norm and lifetime are state effects and exact; mass is the *direct* effect: the
    queries of later tokens are those of the clean run. Alignments, norms and masses are means
    over the layers of the sink (for a control: of its sink), mass in the blocks that read them.
    """

    text_id: str
    pos: int
    token_id: int
    token: str
    role: str
    """sink or control."""
    kind: str
    """Kind of the sink, or of the control: twin (same token id) or neighbour."""
    sink_pos: int
    """Position of the sink; for a control, of the sink that it is matched with."""
    layer: int
    site: str
    edit: str
    effect: str
    """How later queries are treated: direct (frozen) or total."""
    lifetime_clean: int
    lifetime_edited: int
    l_start_clean: float
    """Creation layer; NaN where the token is no sink."""
    l_start_edited: float
    alignment_clean: float
    alignment_edited: float
    alignment_centred_clean: float
    alignment_centred_edited: float
    norm_clean: float
    norm_edited: float
    mass_clean: float
    mass_edited: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """Effects of many edits."""

    rows: tuple[Effect, ...]

    def to_frame(self) -> "pd.DataFrame":
        """One row per cell (text x token x layer x edit)."""
        return _frame([asdict(row) for row in self.rows], Effect)

    @staticmethod
    def join(parts: Iterable["Effects"]) -> "Effects":
        """All rows of several tables, in order."""
        return Effects(rows=tuple(row for part in parts for row in part.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerEffect:
    """What ablating one layer takes from sinks beyond what it takes from their controls."""

    layer: int
    lost: float
    """`sinks_lost` less `controls_lost`."""
    low: float
    """Lower end of the interval."""
    high: float
    sinks_lost: float
    """Share of their clean mass that sinks lose; 1 is all."""
    controls_lost: float
    """Share of their clean mass that controls lose."""
    removed: float
    """Share of sinks whose lifetime falls to 0."""
    prolonged: float
    """Share of sinks whose lifetime grows."""
    n_sinks: int
    """Secondary sinks with a control: those that the numbers are of."""
    n_unmatched: int
    """Secondary sinks without a control, left out."""
    n_texts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An answer to a causal question, with what it rests on."""

    claim: str
    outcome: str
    """supported, contradicted or inconclusive."""
    why: str
    statistic: str
    value: float
    low: float
    """Lower end of the interval."""
    high: float
    confidence: float
    controls: str
    n_sinks: int
    n_texts: int


def _frame(rows: list[dict[str, Any]], kind: type) -> "pd.DataFrame":
    """Rows as a frame whose columns have their types even where there is no row."""
    import pandas as pd

    kinds = {item.name: item.type if item.type in (int, float) else str for item in fields(kind)}
    return pd.DataFrame(rows, columns=list(kinds)).astype(kinds)
