"""`Trace`: the measurements of one text."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.display import Displayed, Listed, count, make_visible, strip_html
from secondary_sinks.errors import TraceError
from secondary_sinks.types.trace_measures import MEASURES

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Trace(Displayed):
    """Measurements of one text: a few numbers per layer and position.

    Layers and positions are counted from 0. Row l of a measure of states (norms, alignments) is
    about resid_post of block l. Row l of a measure of attention (`mass`, `score`, keys, values) is
    about block l, which reads the states of layer l - 1. Tensors are on the CPU in float32; what
    was not measured is NaN. Made by `observe` or `trace_from_cache`.
    """

    text_id: str
    tokens: Int[Tensor, "pos"]
    token_strings: tuple[str, ...]
    primary: int
    """Position of the most likely primary sink; `detect` says at which layers it is active."""
    reference: Int[Tensor, "layer"]
    """Position that alignment is measured against: the primary, or another token in its place."""
    norm: Float[Tensor, "layer pos"]
    """Norm of resid_post, in units of the residual."""
    norm_ratio: Float[Tensor, "layer pos"]
    """`norm` divided by its median over the text."""
    deviation_ratio: Float[Tensor, "layer pos"]
    """Distance of resid_post from the typical token, divided by its median over the text."""
    alignment: Float[Tensor, "layer pos"]
    """Signed cosine of resid_post with that of the layer's `reference`."""
    alignment_centred: Float[Tensor, "layer pos"]
    """The same after the typical token is subtracted from both."""
    mass: Float[Tensor, "layer pos"]
    """Attention mass of the key in block l, in [0, 1]: mean attention paid to it by the queries
    that can see it, and over heads."""
    mass_null: Float[Tensor, "layer pos"]
    """The even share: mass if every query spread its attention evenly over the keys it sees."""
    mass_local: Float[Tensor, "layer pos"]
    """Median mass of the keys within 16 positions."""
    queries: Int[Tensor, "layer pos"]
    """Number of queries that can see the key."""
    virtual_mass: Float[Tensor, "layer"]
    """Attention that no token receives (learned sinks), mean over queries and heads, in [0, 1]."""
    paid_to_primary: Float[Tensor, "layer pos"]
    """Attention in block l from the query at this position to the reference of layer l - 1, whose
    state the block reads; mean over heads. NaN where the query cannot see it."""
    score: Float[Tensor, "layer pos"]
    """Attention score of the key (q.k x scale, before soft-cap and softmax): mean over the queries
    that can see it, and over heads."""
    key_norm: Float[Tensor, "layer pos"]
    """Length of the key after q/k norm and rotation, as the scores use it; mean over KV heads."""
    key_norm_raw: Float[Tensor, "layer pos"]
    """Length of the output of k_proj, before q/k norm and rotation; mean over KV heads."""
    value_norm: Float[Tensor, "layer pos"]
    """Length of the value, mean over KV heads."""
    mlp_norm: Float[Tensor, "layer pos"]
    """Length of the MLP's output."""
    mlp_alignment: Float[Tensor, "layer pos"]
    """Signed cosine of the MLP's output with the primary's resid_post at the same layer."""
    typical: Float[Tensor, "layer d_model"]
    """The typical token: mean resid_post of ordinary positions."""
    median_norm: Float[Tensor, "layer"]
    """Median of `norm` over the text."""
    median_deviation: Float[Tensor, "layer"]
    """Median distance from the typical token over the text."""
    reference_resid: Float[Tensor, "layer d_model"]
    """resid_post of the reference; NaN at layers before it stands out."""
    dtype: torch.dtype = torch.float32
    """Number type of the model run; all tensors here are float32."""
    alignment_first: Float[Tensor, "first layer pos"] | None = None
    """`alignment` with each of the first four positions, which the paper criterion uses."""

    @property
    def mass_excess(self) -> Float[Tensor, "layer pos"]:
        """Mass beyond the uniform null."""
        return self.mass - self.mass_null

    @property
    def mass_expected(self) -> Float[Tensor, "layer pos"]:
        """Expected mass at this position: the larger of `mass_null` and `mass_local`."""
        return torch.maximum(self.mass_null, self.mass_local)

    def __len__(self) -> int:
        """Number of tokens."""
        return len(self.tokens)

    def _line(self) -> str:
        first = make_visible(self.token_strings[self.primary], most=24)
        size = f"{count(len(self), 'token')} x {count(len(self.norm), 'layer')}"
        return f"{self.text_id!r}: {size}, primary '{first}' at {self.primary}"

    def _html(self) -> str:
        """The text as a strip: each token as blue as the most attention that it ever draws."""
        most, layers = self.mass_excess.nan_to_num(-1.0).max(0)
        says = [
            f"position {pos}: {mass:.1%} of attention beyond an even share, in block {layer}"
            for pos, (mass, layer) in enumerate(zip(most.tolist(), layers.tolist(), strict=True))
        ]
        return strip_html(self.token_strings, most.clamp(0).sqrt().tolist(), says)

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
    """Masses by the layer of the state that draws them: row l is row l + 1 of `mass`.

    `mass` has one row per block, and block l + 1 reads the states of layer l. The last layer, which
    no block reads, is NaN.
    """
    return torch.cat([mass[1:].float(), torch.full_like(mass[:1], torch.nan, dtype=torch.float32)])


def check_is_trace(given: Any) -> None:
    """Raise `TraceError` for anything but a trace, such as a text."""
    if not isinstance(given, Trace):
        raise TraceError(
            f"expected a trace of one text, got {type(given).__name__}",
            "measure the text first: trace = observe(model, text)",
        )


def as_traces(given: Trace | Iterable[Trace]) -> list[Trace]:
    """One trace or several as a list. Raises `TraceError` for anything else."""
    many = isinstance(given, Iterable) and not isinstance(given, Trace | Listed | str | Tensor)
    texts = list(given) if many else [given]  # type: ignore[arg-type]
    for trace in texts:
        check_is_trace(trace)
    return texts  # type: ignore[return-value]
