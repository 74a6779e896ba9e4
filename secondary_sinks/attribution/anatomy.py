"""`mlp_anatomy`: similarity of sinks with the primary at every stage of an MLP."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import AttributionError, UnsupportedModelError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.layerwise.submodules import activation_of, mlp_ends, neurons_of
from secondary_sinks.measures import alignment, norms
from secondary_sinks.observation import iter_layers
from secondary_sinks.observation.activations import ActivationCollector
from secondary_sinks.observation.layers import check_same_states, check_trace
from secondary_sinks.types import MlpAnatomy, MlpStage, Sink, SinkTable, Trace
from secondary_sinks.types.controls import Control, last_judged, match_controls
from secondary_sinks.types.own_sinks import sinks_of

GATED_STAGES = ("input", "gate", "up", "act", "act*up", "down")
PLAIN_STAGES = ("input", "up", "act", "down")
TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-6, torch.bfloat16: 5e-2, torch.float16: 1e-2}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A token, and the layer at which it is compared."""

    pos: int
    role: str
    kind: str
    sink_pos: int
    layer: int


def mlp_anatomy(
    model: HookedModel, trace: Trace, sinks: SinkTable, layer: int | None = None
) -> MlpAnatomy:
    """Where in an MLP a token turns towards the primary: cosines and norms at every stage.

    At each stage (input, gate, up, act, act*up, down) the vector of a token is compared with the
    vector of the primary at the same stage of the same layer; the cosine is signed and not centred.
    Compared are every sink of the trace's text except the primary, and one matched control for each
    (a token twin, else a neighbour), at the sink's creation layer or at `layer`. A mixture of
    experts has only input and down; the other stages are NaN.
    Source: the MLP figure of Wong et al. 2025 (arXiv 2512.22213).

    Raises `TraceError` for a trace of another model, `AttributionError` for a layer out of range.
    """
    check_trace(model, trace)
    n_layers = len(trace.norm)
    if layer is not None and not 0 <= layer < n_layers:
        raise AttributionError(f"layer {layer} is out of range", f"expected 0 to {n_layers - 1}")
    members = _members(trace, sinks, layer)
    rows: list[MlpStage] = []
    if not members:
        return MlpAnatomy(rows=())
    layers = sorted({member.layer for member in members})
    collectors = {
        one: ActivationCollector(
            sorted({int(trace.reference[one]), *(m.pos for m in members if m.layer == one)})
        )
        for one in layers
    }

    def hooks(at: int) -> Sequence[Any]:
        return (
            collectors[at].hooks(model, at, "pre", "pre_linear", "post") if at in collectors else ()
        )

    with mlp_ends(model, layers, lambda at, end, tensor: collectors[at].take(end, tensor)):
        for view in iter_layers(model, trace.tokens, received=False, hooks=hooks):
            check_same_states(view, trace)
            if view.layer in collectors:
                stages = _stages(model, view.layer, collectors.pop(view.layer), trace)
                here = [member for member in members if member.layer == view.layer]
                rows += [row for member in here for row in _rows(trace, member, stages)]
    return MlpAnatomy(rows=tuple(rows))


def _members(trace: Trace, sinks: SinkTable, layer: int | None) -> list[_Member]:
    """Sinks, each followed by its control."""
    own = sinks_of(trace, sinks).sinks
    targets = [sink for sink in own if sink.kind != "primary"]
    controls = {control.sink_pos: control for control in _controls(trace, sinks, own, targets)}
    members = []
    for sink in targets:
        at = sink.l_start if layer is None else layer
        members.append(
            _Member(pos=sink.pos, role="sink", kind=sink.kind, sink_pos=sink.pos, layer=at)
        )
        control = controls.get(sink.pos)
        if control:
            kind, pos = control.kind, control.pos
            members.append(_Member(pos=pos, role="control", kind=kind, sink_pos=sink.pos, layer=at))
    return members


def _controls(
    trace: Trace, sinks: SinkTable, own: Sequence[Sink], targets: Sequence[Sink]
) -> list[Control]:
    """Controls among the tokens that are not sinks and are seen by enough queries."""
    last = last_judged(trace, sinks)
    excluded = {sink.pos for sink in own} | set(trace.reference.tolist())
    return match_controls(trace.tokens.tolist(), [s.pos for s in targets], excluded, last)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Stages:
    """Vectors at each stage of one layer's MLP, one row per position."""

    positions: list[int]
    primary: int
    names: tuple[str, ...]
    vectors: dict[str, Float[Tensor, "row _"]]
    """By stage, without the stages that the MLP does not have."""

    def compare_with_primary(self, stage: str, pos: int) -> dict[str, float]:
        """Cosine and norms; NaN for a missing stage."""
        if stage not in self.vectors:
            return dict.fromkeys(("cosine", "norm", "norm_primary"), torch.nan)
        rows = self.vectors[stage]
        own, primary = (rows[self.positions.index(one)] for one in (pos, self.primary))
        return {
            "cosine": float(alignment(own, primary)),
            "norm": float(norms(own)),
            "norm_primary": float(norms(primary)),
        }


def _stages(model: HookedModel, layer: int, gather: ActivationCollector, trace: Trace) -> _Stages:
    vectors = {"input": gather.rows("input"), "down": gather.rows("down")}
    names: tuple[str, ...] = GATED_STAGES
    if neurons_of(model, layer) is not None:
        gate, up, post = (gather.rows(point) for point in ("pre", "pre_linear", "post"))
        assert gate is not None
        assert post is not None
        act = activation_of(model, layer)(gate)
        _check_stages(act if up is None else act * up, post, layer, model.cfg.dtype)
        vectors |= {"act": act}
        vectors |= {"up": gate} if up is None else {"gate": gate, "up": up, "act*up": post}
        names = PLAIN_STAGES if up is None else GATED_STAGES
    return _Stages(
        positions=gather.positions.tolist(),
        primary=int(trace.reference[layer]),
        names=names,
        vectors={name: rows for name, rows in vectors.items() if rows is not None},
    )


def _check_stages(made: Tensor, post: Tensor, layer: int, dtype: torch.dtype) -> None:
    error = float((made - post).abs().max() / post.abs().max())
    if not error <= TOLERANCE[dtype]:
        raise UnsupportedModelError(
            f"in the MLP of layer {layer}, act(gate) x up is not the input of W_out (relative "
            f"error {error:.2g}); the stages of this architecture are not supported"
        )


def _rows(trace: Trace, member: _Member, stages: _Stages) -> Iterator[MlpStage]:
    for stage in stages.names:
        yield MlpStage(
            text_id=trace.text_id,
            pos=member.pos,
            token_id=int(trace.tokens[member.pos]),
            token=trace.token_strings[member.pos],
            role=member.role,
            kind=member.kind,
            sink_pos=member.sink_pos,
            layer=member.layer,
            stage=stage,
            **stages.compare_with_primary(stage, member.pos),
        )
