"""`Trace`: what one pass measured."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.types.trace_measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """What one streaming pass measured of one text: a few numbers per layer and position."""

    text_id: str
    tokens: Int[Tensor, "pos"]
    token_strings: tuple[str, ...]
    primary: int
    """Position of the primary sink (the likeliest one: `detect` says where it is active)."""
    reference: Int[Tensor, "layer"]
    """Position that alignment is measured against: the primary, or the token that stands in."""
    norm: Float[Tensor, "layer pos"]
    """Length of resid_post."""
    norm_ratio: Float[Tensor, "layer pos"]
    """The same in medians over the text."""
    deviation_ratio: Float[Tensor, "layer pos"]
    """Distance of resid_post from the typical token, in medians over the text."""
    alignment: Float[Tensor, "layer pos"]
    """Signed cosine of resid_post with that of the layer's `reference`."""
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
    paid_to_primary: Float[Tensor, "layer pos"]
    """Attention that the query at this position pays in block l to the reference of the state
    that the block reads (layer l - 1), mean over heads; NaN where it can't see that token."""
    score: Float[Tensor, "layer pos"]
    """Mean attention score of the key (q.k x scale, before soft-cap and softmax) over the queries
    that see it and over heads."""
    key_norm: Float[Tensor, "layer pos"]
    """Length of the used key: as the scores use it, after q/k norm and rotation; mean over KV
    heads."""
    key_norm_raw: Float[Tensor, "layer pos"]
    """Length of the raw key: the output of k_proj, before q/k norm and rotation; mean over KV
    heads."""
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
    reference_resid: Float[Tensor, "layer d_model"]
    """resid_post of the reference; NaN before it stood out (see `observation.candidates`)."""
    dtype: torch.dtype = torch.float32
    """Number type of the run; all numbers here are float32."""
    alignment_first: Float[Tensor, "first layer pos"] | None = None
    """`alignment` with each of the first four positions, for criteria that look there only."""

    @property
    def mass_excess(self) -> Float[Tensor, "layer pos"]:
        """Mass beyond the uniform null."""
        return self.mass - self.mass_null

    @property
    def mass_expected(self) -> Float[Tensor, "layer pos"]:
        """What a key at its place gets: its even share, or its neighbours' mass if that is more."""
        return torch.maximum(self.mass_null, self.mass_local)

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


LAYER_POS = tuple(one.name for one in MEASURES if one.in_frame)
"""The measures of a `Trace` by layer and position, in the order of `Trace.to_frame`."""


def read_by_next(mass: Float[Tensor, "layer *shape"]) -> Float[Tensor, "layer *shape"]:
    """Shift masses one layer down: from the block that attends to the state it attends to."""
    return torch.cat([mass[1:].float(), torch.full_like(mass[:1], torch.nan, dtype=torch.float32)])
