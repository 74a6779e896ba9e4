"""`Formation`: which components write a sink's alignment with the primary, and which remove it."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.display import Displayed, count, tally

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class FormationEvent:
    """The creation (at l_start) or the end ("death", after l_end) of one sink."""

    text_id: str
    pos: int
    token_id: int
    token: str
    kind: str
    event: str
    """creation or death."""
    event_layer: int
    """The block at which it happens: l_start, or the one after l_end."""
    direction_layer: int
    """Layer of the primary's direction: the first or the last layer of the sink."""
    tests: str
    """Tests that changed, out of aligned, outlying, attended and primary (whether a primary is
    active): those that fail just before l_start, or just after l_end."""
    censored: bool
    """Whether the true start or end is unknown: at an end of the model or of the primary's span."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Formation(Displayed):
    """Signed contributions of each component along the primary's direction, for each event.

    The direction of an event is the primary's state minus the typical token, at `direction_layer`.
    It is the same for all layers, so `embed` and the contributions of all layers up to l add up to
    the projection of the residual at l. Within a layer, heads and bias add up to `attention`, and
    neurons (the largest ones, and all others together) and bias to `mlp`. Missing components are
    NaN: neurons in a mixture of experts, and heads and neurons if they were not asked for.
    """

    events: tuple[FormationEvent, ...]
    embed: Float[Tensor, "event"]
    """Projection of the residual that enters layer 0, in units of the residual, as all others."""
    attention: Float[Tensor, "event layer"]
    """Contribution of the attention output of each layer."""
    mlp: Float[Tensor, "event layer"]
    """Contribution of the MLP output of each layer."""
    typical_embed: Float[Tensor, "event"]
    """`embed`, mean over the ordinary tokens of the direction's layer; likewise below."""
    typical_attention: Float[Tensor, "event layer"]
    typical_mlp: Float[Tensor, "event layer"]
    heads: Float[Tensor, "event layer head"]
    attention_bias: Float[Tensor, "event layer"]
    neurons: Float[Tensor, "event layer rank"]
    """Indices of the neurons with the largest absolute contributions, largest first."""
    neuron: Float[Tensor, "event layer rank"]
    """Contributions of these neurons."""
    other_neurons: Float[Tensor, "event layer"]
    """Sum of the contributions of all other neurons."""
    mlp_bias: Float[Tensor, "event layer"]

    def _line(self) -> str:
        size = f"{count(len(self.events), 'event')} x {count(self.mlp.shape[1], 'layer')}"
        return f"{size}: {tally(event.event for event in self.events)}"

    @property
    def change(self) -> Float[Tensor, "event layer"]:
        """Contribution of each layer: attention plus MLP."""
        return self.attention + self.mlp

    @property
    def total(self) -> Float[Tensor, "event"]:
        """Projection of the residual at the direction's layer."""
        after = self.embed[:, None] + self.change.double().cumsum(1)
        at = torch.tensor([event.direction_layer for event in self.events], dtype=torch.long)
        return after.gather(1, at[:, None])[:, 0].float()

    def to_frame(self, layers: str = "event") -> "pd.DataFrame":
        """One row per event, layer and component; heads and neurons in order of size.

        `layers` is "event" (only the block of the event) or "all" (with the embedding, as a row of
        layer 0). `projection` is a signed length. `share` divides it by the contribution of the
        whole layer, so that attention and MLP add up to 1. `of_total` divides it by the projection
        of the residual at the direction's layer, so that the embedding and all layers up to there
        add up to 1. `typical` is the mean contribution at ordinary tokens (NaN for heads, neurons
        and biases).
        """
        import pandas as pd

        if layers not in ("event", "all"):
            raise ValueError(f"layers is 'event' or 'all'; got {layers!r}")
        return pd.DataFrame(list(self._rows(layers)), columns=list(_KINDS)).astype(_KINDS)

    def _rows(self, layers: str) -> Iterator[dict[str, Any]]:
        changes, totals = self.change, self.total
        for number, event in enumerate(self.events):
            words, total = asdict(event), float(totals[number])
            every = range(self.mlp.shape[1]) if layers == "all" else [event.event_layer]
            if layers == "all":
                own, typical = float(self.embed[number]), float(self.typical_embed[number])
                first = _row("embed", torch.nan, own, typical, torch.nan, total)
                yield words | {"layer": 0} | first
            for layer in every:
                change = float(changes[number, layer])
                for name, index, own, typical in self._parts(number, layer):
                    yield words | {"layer": layer} | _row(name, index, own, typical, change, total)

    def _parts(self, event: int, layer: int) -> Iterator[tuple[str, float, float, float]]:
        """(component, index, projection, typical) of one layer."""
        at, nan = (event, layer), torch.nan
        yield "attn", nan, float(self.attention[at]), float(self.typical_attention[at])
        heads = self.heads[at]
        for head in heads.nan_to_num().abs().argsort(descending=True).tolist():
            yield "head", float(head), float(heads[head]), nan
        yield "attn_bias", nan, float(self.attention_bias[at]), nan
        yield "mlp", nan, float(self.mlp[at]), float(self.typical_mlp[at])
        pairs = zip(self.neurons[at].tolist(), self.neuron[at].tolist(), strict=True)
        yield from (("neuron", index, own, nan) for index, own in pairs if index == index)
        yield "other_neurons", nan, float(self.other_neurons[at]), nan
        yield "mlp_bias", nan, float(self.mlp_bias[at]), nan


def _row(
    name: str, index: float, own: float, typical: float, change: float, total: float
) -> dict[str, Any]:
    return {
        "component": name,
        "index": index,
        "projection": own,
        "typical": typical,
        "share": own / change if change else torch.nan,
        "of_total": own / total if total else torch.nan,
    }


_KINDS: dict[str, Any] = {
    **{item.name: item.type for item in fields(FormationEvent)},
    **{"layer": int, "component": str},
    **dict.fromkeys(("index", "projection", "typical", "share", "of_total"), float),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpStage:
    """One stage of one MLP at one token, compared with the same stage at the primary."""

    text_id: str
    pos: int
    token_id: int
    token: str
    role: str
    """sink or control."""
    kind: str
    """Kind of the sink; for a control, twin (same token id) or neighbour."""
    sink_pos: int
    """Position of the sink; for a control, of its matched sink."""
    layer: int
    stage: str
    """input (of the MLP, after the norm before it), gate, up, act (activation of the gate), act*up,
    or down (output of W_out, before any norm after it). MLPs without a gate have input, up, act and
    down."""
    cosine: float
    """Signed cosine with the primary's vector of the same stage and layer, in [-1, 1]."""
    norm: float
    """Norm of the vector at this token."""
    norm_primary: float
    """Norm of the primary's vector of the same stage and layer."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class MlpAnatomy(Displayed):
    """Cosines with the primary, and norms, at every stage of the MLPs that form sinks."""

    rows: tuple[MlpStage, ...]

    def _line(self) -> str:
        return f"{count(len(self.rows), 'row')}: {tally(row.stage for row in self.rows)}"

    def to_frame(self) -> "pd.DataFrame":
        """One row per token and stage."""
        from secondary_sinks.types.frames import tidy

        return tidy([asdict(row) for row in self.rows], MlpStage)
