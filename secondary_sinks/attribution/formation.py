"""`formation`: which parts of the model write a sink's alignment, and which take it away."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.attribution.events import directions, events_of, ordinary_weights
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.layerwise.submodules import heads_of, neurons_of
from secondary_sinks.measures.contributions import neuron_contributions, projection
from secondary_sinks.measures.precision import in_float64
from secondary_sinks.observation import LayerView, iter_layers
from secondary_sinks.observation.check_trace import check_same_states, check_trace
from secondary_sinks.observation.collector import ActivationCollector
from secondary_sinks.types import Formation, FormationEvent, SinkTable, Trace

Table = dict[str, Tensor]


def formation(
    model: HookedModel,
    trace: Trace,
    sinks: SinkTable,
    *,
    top_neurons: int = 10,
    parts: bool = True,
) -> Formation:
    """What every component writes along the primary's direction at each sink, in one walk.

    For the creation (at `l_start`) and the death (after `l_end`) of every sink of the trace's
    text, the primary itself among them. Signed lengths, exact: attention and MLP of a layer add
    up to the change of the residual along the direction, heads and bias to attention, neurons
    and bias to the MLP. Where a norm follows a sublayer, heads and neurons are given the share
    that they have with its length as it was. `parts=False` leaves heads and neurons out.

    Raises `TraceError` for a trace of another model, `UnsupportedModelError` where heads or
    neurons do not add up to what their sublayer writes.
    """
    check_trace(model, trace)
    events, top = events_of(trace, sinks), min(top_neurons, model.cfg.d_mlp) if parts else 0
    if not events:
        return _empty(model, top)
    asked = _Asked.of(trace, events)
    layers: list[Table] = []
    gathers: dict[int, ActivationCollector] = {}

    def hooks(layer: int) -> Sequence[Hook]:
        gathers[layer] = ActivationCollector(asked.positions, asked.weights)
        points = ("attn_out", "z", "post") if parts else ("attn_out",)
        return gathers[layer].hooks(model, layer, *points)

    for view in iter_layers(model, trace.tokens, hooks=hooks):
        check_same_states(view, trace)
        if view.layer == 0:
            embed = _embed(view, asked)
        gather = gathers.pop(view.layer)
        layers.append(_layer(model, view, gather, asked, top, parts))
    columns = {name: torch.stack([layer[name] for layer in layers], 1).cpu() for name in layers[0]}
    return Formation(events=events, **embed, **columns)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Asked:
    """What is asked of every layer: which positions, along which directions."""

    positions: list[int]
    rows: Int[Tensor, "event"]
    """Row of each event's token among the positions."""
    directions: Float[Tensor, "event d_model"]
    weights: Float[Tensor, "event pos"]
    groups: tuple[tuple[int, ...], ...]
    """Events that share a direction."""

    @staticmethod
    def of(trace: Trace, events: tuple[FormationEvent, ...]) -> "_Asked":
        positions = sorted({event.pos for event in events})
        at = [event.direction_layer for event in events]
        return _Asked(
            positions=positions,
            rows=torch.tensor([positions.index(event.pos) for event in events]),
            directions=directions(trace, events),
            weights=ordinary_weights(trace, events),
            groups=tuple(
                tuple(number for number, layer in enumerate(at) if layer == one)
                for one in sorted(set(at))
            ),
        )


def _embed(view: LayerView, asked: _Asked) -> Table:
    gather = ActivationCollector(asked.positions, asked.weights)
    gather.take("resid_pre", view.resid_pre[None])
    return {
        "embed": _along(gather, "resid_pre", asked),
        "typical_embed": _typical(gather, "resid_pre", asked),
    }


def _layer(
    model: HookedModel,
    view: LayerView,
    gather: ActivationCollector,
    asked: _Asked,
    top: int,
    parts: bool,
) -> Table:
    """All columns of one layer, one row per event."""
    gather.take("mlp_out", view.mlp_out[None])
    columns = {
        "attention": _along(gather, "attn_out", asked),
        "mlp": _along(gather, "mlp_out", asked),
        "typical_attention": _typical(gather, "attn_out", asked),
        "typical_mlp": _typical(gather, "mlp_out", asked),
    }
    heads = _heads(model, view.layer, gather, asked) if parts else _no_heads(model, asked)
    neurons = _neurons(model, view.layer, gather, asked, top) if parts else _no_neurons(asked, 0)
    return columns | heads | neurons


def _along(gather: ActivationCollector, point: str, asked: _Asked) -> Float[Tensor, "event"]:
    rows = gather.rows(point)
    assert rows is not None
    return projection(rows[asked.rows], asked.directions.to(rows.device)).cpu()


def _typical(gather: ActivationCollector, point: str, asked: _Asked) -> Float[Tensor, "event"]:
    means = gather.means(point)
    return projection(means, asked.directions.to(means.device)).cpu()


def _heads(model: HookedModel, layer: int, gather: ActivationCollector, asked: _Asked) -> Table:
    heads, z, added = heads_of(model, layer), gather.rows("z"), gather.rows("attn_out")
    assert z is not None
    assert added is not None
    z = z.unflatten(1, (len(heads.weights), -1)) if z.ndim == 2 else z
    written = torch.einsum("rhd,hdm->rhm", z, heads.weights.float())
    bias = heads.bias.float().expand_as(added)
    gain = heads.gain(written.sum(1) + bias, added)
    if gain is not None:
        written, bias = written * gain[:, None], bias * gain
    along = asked.directions.to(written.device)
    return {
        "heads": projection(written[asked.rows], along[:, None]).cpu(),
        "attention_bias": projection(bias[asked.rows], along).cpu(),
    }


def _no_heads(model: HookedModel, asked: _Asked) -> Table:
    shape = (len(asked.rows), model.cfg.n_heads)
    missing = torch.full(shape, torch.nan)
    return {"heads": missing, "attention_bias": missing[:, 0]}


def _neurons(
    model: HookedModel, layer: int, gather: ActivationCollector, asked: _Asked, top: int
) -> Table:
    neurons, post, added = neurons_of(model, layer), gather.rows("post"), gather.rows("mlp_out")
    if neurons is None or post is None:
        return _no_neurons(asked, top)
    assert added is not None
    weights, bias = neurons.weights.float(), neurons.bias.float().expand_as(added)
    gain = neurons.gain(post @ weights + bias, added)
    along = asked.directions.to(post.device)
    each = torch.empty(len(asked.rows), len(weights), device=post.device)
    for group in asked.groups:
        direction = along[group[0]]
        if gain is None:
            each[list(group)] = neuron_contributions(
                post[asked.rows[list(group)]], weights, direction
            )
            continue
        for event in group:
            row = asked.rows[event]
            each[event] = neuron_contributions(post[row], weights * gain[row], direction)
    bias = bias if gain is None else bias * gain
    first = each.abs().topk(min(top, each.shape[1]), dim=1).indices
    largest = each.gather(1, first)
    rest = in_float64(each).sum(1) - in_float64(largest).sum(1)
    return {
        "neurons": _padded(first.float(), top),
        "neuron": _padded(largest, top),
        "other_neurons": rest.float().cpu(),
        "mlp_bias": projection(bias[asked.rows], along).cpu(),
    }


def _no_neurons(asked: _Asked, top: int) -> Table:
    missing = torch.full((len(asked.rows), top), torch.nan)
    alone = torch.full((len(asked.rows),), torch.nan)
    return {"neurons": missing, "neuron": missing, "other_neurons": alone, "mlp_bias": alone}


def _padded(values: Float[Tensor, "event some"], width: int) -> Float[Tensor, "event rank"]:
    padding = (0, width - values.shape[1])
    return torch.nn.functional.pad(values, padding, value=torch.nan).cpu()


def _empty(model: HookedModel, top: int) -> Formation:
    """Of no sink at all."""
    none, n_layers = torch.zeros(0), model.cfg.n_layers
    by_layer = torch.zeros(0, n_layers)
    return Formation(
        events=(),
        embed=none,
        typical_embed=none,
        heads=torch.zeros(0, n_layers, model.cfg.n_heads),
        neurons=torch.zeros(0, n_layers, top),
        neuron=torch.zeros(0, n_layers, top),
        **dict.fromkeys(
            (
                "attention",
                "mlp",
                "typical_attention",
                "typical_mlp",
                "attention_bias",
                "other_neurons",
                "mlp_bias",
            ),
            by_layer,
        ),
    )
