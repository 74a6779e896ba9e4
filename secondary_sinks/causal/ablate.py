"""`ablate`: switch off the MLP of one layer at one token, for every sink, layer and control."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool
from torch import Tensor

from secondary_sinks.causal.check import check_words
from secondary_sinks.causal.replay import Progress, Replay, replay
from secondary_sinks.detection import Tests, is_attended, joint_tests
from secondary_sinks.models.protocol import HookedModel
from secondary_sinks.observation.belongs import check_belongs
from secondary_sinks.texts.twins import Control, match_controls
from secondary_sinks.types import Edit, Effect, Effects, Sink, SinkTable, Thresholds, Trace


def ablate(
    model: HookedModel,
    trace: Trace,
    sinks: SinkTable,
    edit: str = "zero",
    *,
    layers: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Effects:
    """Ablate `mlp_out` at every non-primary sink of a text and at matched controls, by layer.

    `edit` is the label of any kind of `Edit`: "zero" (the MLP writes nothing), "mean" (it writes
    what it writes on average at the text's ordinary tokens), "none" (the no-op), "scale:0.5". One
    cell per token and layer, each alone, exact by single-token replay. Sinks of other texts in
    the table are left out.

    Raises `EditError` for unknown edits or layers, `TraceError` for a trace of another model.
    """
    check_words(Edit.of_label(edit, pos=0, layer=0))
    check_belongs(model, trace)
    targets = [s for s in sinks.sinks if s.text_id == trace.text_id and s.kind != "primary"]
    controls = _controls(trace, sinks, targets)
    layers = range(len(trace.norm)) if layers is None else layers
    positions = [sink.pos for sink in targets] + [control.pos for control in controls]
    edits = [Edit.of_label(edit, pos=pos, layer=layer) for pos in positions for layer in layers]
    if not edits:
        return Effects(rows=())
    result = replay(model, trace, edits, progress=progress)
    by_pos = {sink.pos: sink for sink in targets}
    owners: dict[int, tuple[Sink, Control | None]] = {s.pos: (s, None) for s in targets}
    owners |= {control.pos: (by_pos[control.sink_pos], control) for control in controls}
    return Effects(rows=_effects(trace, sinks.thresholds, result, owners))


def _controls(trace: Trace, sinks: SinkTable, targets: Sequence[Sink]) -> list[Control]:
    """Matched ordinary tokens that enough queries can see."""
    every_sink = {sink.pos for sink in sinks.sinks if sink.text_id == trace.text_id}
    seen = (trace.queries.amin(0) >= sinks.thresholds.min_queries).nonzero()[:, 0]
    last = int(seen.max()) if len(seen) else -1
    positions = [sink.pos for sink in targets]
    return match_controls(trace.tokens.tolist(), positions, every_sink | {trace.primary}, last)


def _effects(
    trace: Trace,
    thresholds: Thresholds,
    result: Replay,
    owners: dict[int, tuple[Sink, Control | None]],
) -> tuple[Effect, ...]:
    clean = joint_tests(trace, thresholds)
    edited = _edited_sinks(trace, result, thresholds)
    rows = []
    for cell, (edit,) in enumerate(result.cells):
        pos = result.positions[cell]
        sink, control = owners[pos]
        rows.append(
            Effect(
                text_id=trace.text_id,
                pos=pos,
                token_id=int(trace.tokens[pos]),
                token=trace.token_strings[pos],
                role="control" if control else "sink",
                kind=control.kind if control else sink.kind,
                sink_pos=sink.pos,
                layer=edit.layers[0],
                site=edit.site,
                edit=edit.label,
                effect="direct",
                lifetime_clean=int(clean.joint[:, pos].sum()),
                lifetime_edited=int(edited[:, cell].sum()),
                l_start_clean=_first(clean.joint[:, pos]),
                l_start_edited=_first(edited[:, cell]),
                **_means(trace, result, cell, pos, sink.layers),
            )
        )
    return tuple(rows)


def _edited_sinks(
    trace: Trace, result: Replay, thresholds: Thresholds
) -> Bool[Tensor, "layer cell"]:
    """Where each edited token is still a sink, by the same criterion as in the clean run."""
    positions = list(result.positions)
    expected, queries = trace.mass_expected[:, positions], trace.queries[:, positions]
    return Tests(
        aligned=result.alignment_centred >= thresholds.aligned,
        outlying=result.deviation_ratio >= thresholds.outlying,
        attended=is_attended(result.mass, expected, queries, thresholds),
        primary_active=joint_tests(trace, thresholds).primary_active,
    ).joint


def _means(
    trace: Trace, result: Replay, cell: int, pos: int, layers: Sequence[int]
) -> dict[str, float]:
    """Means over the sink's layers, clean and edited; masses in the blocks that read them."""
    own = list(layers)
    read = [layer + 1 for layer in own if layer + 1 < len(trace.mass)]
    values = {}
    for name in ("alignment", "alignment_centred", "norm", "mass"):
        rows = read if name == "mass" else own
        values[f"{name}_clean"] = float(getattr(trace, name)[rows, pos].mean())
        values[f"{name}_edited"] = float(getattr(result, name)[rows, cell].mean())
    return values


def _first(is_sink: Bool[Tensor, "layer"]) -> float:
    layers = is_sink.nonzero()[:, 0]
    return float(layers[0]) if len(layers) else torch.nan
