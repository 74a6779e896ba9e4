"""`formation`: which components write a sink's alignment with the primary, and which remove it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from secondary_sinks.attribution.events import directions, events_of, ordinary_weights
from secondary_sinks.errors import AttributionError
from secondary_sinks.layerwise.protocol import Hook, HookedModel
from secondary_sinks.layerwise.submodules import heads_of, neurons_of
from secondary_sinks.measures.contributions import neuron_contributions, projection
from secondary_sinks.measures.precision import in_float64
from secondary_sinks.numbers import true_or_false
from secondary_sinks.observation import LayerView, iter_layers
from secondary_sinks.observation.activations import ActivationCollector
from secondary_sinks.observation.layers import check_same_states, check_trace
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
    """What each component writes along the primary's direction at each sink, in one pass.

    For the creation (at `l_start`) and the end (after `l_end`) of every sink of the trace's text,
    including the primary. The direction is the primary's state minus the typical token. A
    contribution is the signed length of a component's output along it (as in direct logit
    attribution, Elhage et al. 2021), in units of the residual. They add up exactly: attention and
    MLP of a layer add up to the change of the residual along the direction, heads and bias to
    attention, neurons and bias to the MLP. If a norm follows a sublayer, its scale is held fixed,
    so that heads and neurons still add up. `parts=False` leaves out heads and neurons;
    `top_neurons` is the number of neurons that are listed one by one.

    Raises `TraceError` for a trace of another model, `UnsupportedModelError` if heads or neurons do
    not add up to the output of their sublayer.
    """
    true_or_false("parts", parts, AttributionError)
    check_trace(model, trace)
    events, top = events_of(trace, sinks), min(top_neurons, model.cfg.d_mlp) if parts else 0
    if not events:
        return _empty(model, top)
    targets = _Targets.of(trace, events)
    layers: list[Table] = []
    collectors: dict[int, ActivationCollector] = {}

    def hooks(layer: int) -> Sequence[Hook]:
        collectors[layer] = ActivationCollector(targets.positions, targets.weights)
        points = ("attn_out", "z", "post") if parts else ("attn_out",)
        return collectors[layer].hooks(model, layer, *points)

    for view in iter_layers(model, trace.tokens, received=False, hooks=hooks):
        check_same_states(view, trace)
        if view.layer == 0:
            embed = _embed(view, targets)
        collector = collectors.pop(view.layer)
        layers.append(_layer(model, view, collector, targets, top, parts))
    columns = {name: torch.stack([layer[name] for layer in layers], 1).cpu() for name in layers[0]}
    return Formation(events=events, **embed, **columns)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Targets:
    """Positions and directions that are measured at every layer."""

    positions: list[int]
    rows: Int[Tensor, "event"]
    """Index of each event's token in `positions`."""
    directions: Float[Tensor, "event d_model"]
    weights: Float[Tensor, "event pos"]
    groups: tuple[tuple[int, ...], ...]
    """Indices of events that share a direction."""

    @staticmethod
    def of(trace: Trace, events: tuple[FormationEvent, ...]) -> "_Targets":
        positions = sorted({event.pos for event in events})
        at = [event.direction_layer for event in events]
        return _Targets(
            positions=positions,
            rows=torch.tensor([positions.index(event.pos) for event in events]),
            directions=directions(trace, events),
            weights=ordinary_weights(trace, events),
            groups=tuple(
                tuple(number for number, layer in enumerate(at) if layer == one)
                for one in sorted(set(at))
            ),
        )


def _embed(view: LayerView, targets: _Targets) -> Table:
    collector = ActivationCollector(targets.positions, targets.weights)
    collector.take("resid_pre", view.resid_pre[None])
    return {
        "embed": _projection(collector, "resid_pre", targets),
        "typical_embed": _typical(collector, "resid_pre", targets),
    }


def _layer(
    model: HookedModel,
    view: LayerView,
    collector: ActivationCollector,
    targets: _Targets,
    top: int,
    parts: bool,
) -> Table:
    """All columns of one layer, one row per event."""
    collector.take("mlp_out", view.mlp_out[None])
    columns = {
        "attention": _projection(collector, "attn_out", targets),
        "mlp": _projection(collector, "mlp_out", targets),
        "typical_attention": _typical(collector, "attn_out", targets),
        "typical_mlp": _typical(collector, "mlp_out", targets),
    }
    heads = _heads(model, view.layer, collector, targets) if parts else _no_heads(model, targets)
    neurons = (
        _neurons(model, view.layer, collector, targets, top) if parts else _no_neurons(targets, 0)
    )
    return columns | heads | neurons


def _projection(
    collector: ActivationCollector, point: str, targets: _Targets
) -> Float[Tensor, "event"]:
    rows = collector.rows(point)
    assert rows is not None
    return projection(rows[targets.rows], targets.directions.to(rows.device)).cpu()


def _typical(
    collector: ActivationCollector, point: str, targets: _Targets
) -> Float[Tensor, "event"]:
    means = collector.means(point)
    return projection(means, targets.directions.to(means.device)).cpu()


def _heads(
    model: HookedModel, layer: int, collector: ActivationCollector, targets: _Targets
) -> Table:
    heads, z, added = heads_of(model, layer), collector.rows("z"), collector.rows("attn_out")
    assert z is not None
    assert added is not None
    z = z.unflatten(1, (len(heads.weights), -1)) if z.ndim == 2 else z
    written = torch.einsum("rhd,hdm->rhm", z, heads.weights.float())
    bias = heads.bias.float().expand_as(added)
    gain = heads.gain(written.sum(1) + bias, added)
    if gain is not None:
        written, bias = written * gain[:, None], bias * gain
    along = targets.directions.to(written.device)
    return {
        "heads": projection(written[targets.rows], along[:, None]).cpu(),
        "attention_bias": projection(bias[targets.rows], along).cpu(),
    }


def _no_heads(model: HookedModel, targets: _Targets) -> Table:
    shape = (len(targets.rows), model.cfg.n_heads)
    missing = torch.full(shape, torch.nan)
    return {"heads": missing, "attention_bias": missing[:, 0]}


def _neurons(
    model: HookedModel, layer: int, collector: ActivationCollector, targets: _Targets, top: int
) -> Table:
    neurons, post, added = (
        neurons_of(model, layer),
        collector.rows("post"),
        collector.rows("mlp_out"),
    )
    if neurons is None or post is None:
        return _no_neurons(targets, top)
    assert added is not None
    weights, bias = neurons.weights.float(), neurons.bias.float().expand_as(added)
    gain = neurons.gain(post @ weights + bias, added)
    along = targets.directions.to(post.device)
    each = torch.empty(len(targets.rows), len(weights), device=post.device)
    for group in targets.groups:
        direction = along[group[0]]
        if gain is None:
            each[list(group)] = neuron_contributions(
                post[targets.rows[list(group)]], weights, direction
            )
            continue
        for event in group:
            row = targets.rows[event]
            each[event] = neuron_contributions(post[row], weights * gain[row], direction)
    bias = bias if gain is None else bias * gain
    first = each.abs().topk(min(top, each.shape[1]), dim=1).indices
    largest = each.gather(1, first)
    rest = in_float64(each).sum(1) - in_float64(largest).sum(1)
    return {
        "neurons": _pad(first.float(), top),
        "neuron": _pad(largest, top),
        "other_neurons": rest.float().cpu(),
        "mlp_bias": projection(bias[targets.rows], along).cpu(),
    }


def _no_neurons(targets: _Targets, top: int) -> Table:
    missing = torch.full((len(targets.rows), top), torch.nan)
    by_event = torch.full((len(targets.rows),), torch.nan)
    return {"neurons": missing, "neuron": missing, "other_neurons": by_event, "mlp_bias": by_event}


def _pad(values: Float[Tensor, "event some"], width: int) -> Float[Tensor, "event rank"]:
    padding = (0, width - values.shape[1])
    return torch.nn.functional.pad(values, padding, value=torch.nan).cpu()


def _empty(model: HookedModel, top: int) -> Formation:
    """The formation of a text without sinks."""
    none, n_layers = torch.zeros(0), model.cfg.n_layers
    by_layer = torch.zeros(0, n_layers)
    return Formation(
        events=(),
        embed=none,
        typical_embed=none,
        heads=torch.zeros(0, n_layers, model.cfg.n_heads),
        neurons=torch.zeros(0, n_layers, top),
        neuron=torch.zeros(0, n_layers, top),
        **dict.fromkeys(("attention", "mlp", "typical_attention", "typical_mlp"), by_layer),
        **dict.fromkeys(("attention_bias", "other_neurons", "mlp_bias"), by_layer),
    )
