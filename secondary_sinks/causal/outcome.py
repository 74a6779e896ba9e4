"""Effects on an edited token: lifetime, creation layer, means over the layers of the sink."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from secondary_sinks.causal.recomputed import Recomputed
from secondary_sinks.causal.replayed import Replay
from secondary_sinks.detection import Tests, is_attended, joint_tests, lasting_sinks
from secondary_sinks.detection.criteria import lasts_from, run_length
from secondary_sinks.statistics import HALF
from secondary_sinks.types import Edit, Sink, Thresholds, Trace
from secondary_sinks.types.edit_sites import SITE_OF
from secondary_sinks.types.own_sinks import check_is_of

MEANS = ("alignment", "alignment_centred", "norm", "mass")
LITTLE = 0.1
"""A loss of this share of the attention of sinks is little: a claim about one asks for more."""


def edited_sinks(
    trace: Trace, result: Replay, thresholds: Thresholds
) -> Bool[Tensor, "layer cell"]:
    """Where each edited token is still a sink, by the same criterion as in the clean run.

    That includes persistence: a sink that is only brief or weak after the edit counts as ended.
    """
    beyond = result.mass - trace.mass_expected[:, list(result.positions)]
    return lasting_sinks(edited_tests(trace, result, thresholds), beyond, thresholds)


def watched_sinks(
    trace: Trace, result: Recomputed, thresholds: Thresholds
) -> Bool[Tensor, "layer cell watch"]:
    """Where each watched token is a sink in each recomputed cell, judged as by `edited_sinks`."""
    shape, watch = result.mass.shape, list(result.watch)
    expected, queries = (
        values[:, None, watch].expand(shape).flatten(1)
        for values in (trace.mass_expected, trace.queries)
    )
    mass = result.mass.flatten(1)
    tests = Tests(
        aligned=result.alignment_centred.flatten(1) >= thresholds.aligned,
        outlying=result.deviation_ratio.flatten(1) >= thresholds.outlying,
        attended=is_attended(mass, expected, queries, thresholds),
        primary_active=joint_tests(trace, thresholds).primary_active,
    )
    return lasting_sinks(tests, mass - expected, thresholds).unflatten(1, shape[1:])


def still_drawing(
    trace: Trace, result: Recomputed, sinks: Sequence[Sink]
) -> Bool[Tensor, "cell sink"]:
    """Whether each watched sink draws at least half of what it draws in the clean run.

    Attention beyond the expected, mean over the blocks that read the sink. Raises `TraceError` for
    a sink of another text.
    """
    beyond, found = trace.mass - trace.mass_expected, []
    for sink in sinks:
        check_is_of(trace, sink)
        blocks, column = readers(sink.layers, len(trace.mass)), result.column(sink.pos)
        edited = result.mass[blocks, :, column] - trace.mass_expected[blocks, sink.pos, None]
        found.append(edited.mean(0) >= HALF * beyond[blocks, sink.pos].mean())
    return torch.stack(found, dim=1)


def clean_sinks(trace: Trace, thresholds: Thresholds) -> Bool[Tensor, "layer pos"]:
    """The same for all tokens of the clean run."""
    beyond = trace.mass - trace.mass_expected
    return lasting_sinks(joint_tests(trace, thresholds), beyond, thresholds)


def edited_tests(trace: Trace, result: Replay, thresholds: Thresholds) -> Tests:
    """Each test of the joint criterion by layer and cell."""
    positions = list(result.positions)
    expected, queries = trace.mass_expected[:, positions], trace.queries[:, positions]
    return Tests(
        aligned=result.alignment_centred >= thresholds.aligned,
        outlying=result.deviation_ratio >= thresholds.outlying,
        attended=is_attended(result.mass, expected, queries, thresholds),
        primary_active=joint_tests(trace, thresholds).primary_active,
    )


def attended_layers(
    trace: Trace, result: Replay, thresholds: Thresholds
) -> tuple[Int[Tensor, "cell"], Int[Tensor, "cell"]]:
    """Number of layers whose state is attended, for each edited token: clean, and edited.

    Norm and direction do not matter here. The last layer, which no block reads, is not counted.
    """
    clean = joint_tests(trace, thresholds).attended[:, list(result.positions)]
    edited = edited_tests(trace, result, thresholds).attended
    return clean[:-1].sum(0), edited[:-1].sum(0)


class Drawn(NamedTuple):
    """Attention beyond what is expected at a token's position, mean over some blocks."""

    clean: float
    edited: float
    sink: float
    """Of the sink in the clean run, whichever token is edited; NaN if the sink is of another
    text."""


def attention_drawn(trace: Trace, result: Replay, cell: int, sink: Sink) -> Drawn:
    """What an edited token draws in the blocks that read the sink; NaN if no block reads it."""
    blocks, pos = readers(sink.layers, len(trace.mass)), result.positions[cell]
    edited = result.mass[blocks, cell] - trace.mass_expected[blocks, pos]
    here = sink.text_id == trace.text_id
    return Drawn(
        clean=drawn_by(trace, pos, sink),
        edited=float(edited.mean()),
        sink=drawn_by_sink(trace, sink) if here else torch.nan,
    )


def drawn_by_sink(trace: Trace, sink: Sink) -> float:
    """What a sink draws in the clean text; `trace` must be of its text."""
    check_is_of(trace, sink)
    return drawn_by(trace, sink.pos, sink)


def drawn_by(trace: Trace, pos: int, sink: Sink) -> float:
    """What a token draws in a clean text, in the blocks that read a sink; NaN if none reads it."""
    blocks = readers(sink.layers, len(trace.mass))
    return float((trace.mass - trace.mass_expected)[blocks, pos].mean())


def means_over(
    trace: Trace, result: Replay, layers: Sequence[Sequence[int]]
) -> list[dict[str, float]]:
    """Means over the given layers of each cell, clean and edited: one row per cell.

    Masses are those in the blocks that read these layers; NaN if no block reads any of them.
    """
    positions = torch.tensor(result.positions)
    rows: list[dict[str, float]] = [{} for _ in result.positions]
    for own in {tuple(each) for each in layers}:
        cells = [cell for cell, each in enumerate(layers) if tuple(each) == own]
        for name in MEANS:
            at = readers(own, len(trace.mass)) if name == "mass" else list(own)
            clean = getattr(trace, name)[at][:, positions[cells]].mean(0).tolist()
            edited = getattr(result, name)[at][:, cells].mean(0).tolist()
            for cell, was, now in zip(cells, clean, edited, strict=True):
                rows[cell] |= {f"{name}_clean": was, f"{name}_edited": now}
    return rows


def first_settled_layer(trace: Trace, thresholds: Thresholds) -> Int[Tensor, "pos"]:
    """The first layer at which an edit of a token comes too late to end it as a sink.

    States and attention below the edited layer stay as they are. If these alone pass as a sink
    that lasts and draws enough, no edit can end it: usually from three layers after its creation
    on. For a token that is never a sink, the result is the number of layers of the model.
    """
    tests, beyond = joint_tests(trace, thresholds), trace.mass - trace.mass_expected
    n_layers = len(trace.norm)
    begins = lasts_from(tests.joint, tests.goes_on, beyond, thresholds)
    ends = torch.arange(n_layers)[:, None] + run_length(thresholds)
    return ends.where(begins & (ends < n_layers), n_layers).amin(0)


def impossible(trace: Trace, sink: Sink, layer: int, settled: Int[Tensor, "pos"]) -> str:
    """Which outcome an edit of the sink at this layer comes too late for: none, end, weaken, loss.

    "end": from `first_settled_layer` on, no edit can end the sink. "weaken": nor can one take a
    tenth of its attention, where less than that is paid in the blocks above. "loss": above its last
    layer, no edit can take any; it can at most make the sink live longer.
    """
    if layer > sink.layers[-1]:
        return "loss"
    if layer < int(settled[sink.pos]):
        return "none"
    return "weaken" if _paid_above(trace, sink, layer) < LITTLE else "end"


def _paid_above(trace: Trace, sink: Sink, layer: int) -> float:
    """Share of the attention that a sink draws over its life which is paid in blocks above."""
    blocks = torch.tensor(readers(sink.layers, len(trace.mass)), dtype=torch.long)
    mass = trace.mass[blocks, sink.pos]
    return float(mass[blocks > layer].sum() / mass.sum())


def reached(edit: Edit) -> int:
    """The first layer whose state an edit changes, or the attention that the next block pays it.

    >>> reached(Edit(pos=20, layer=3)), reached(Edit(pos=20, layer=3, site="k"))
    (3, 2)
    """
    return min(edit.layers) - SITE_OF[edit.site].early


def readers(layers: Sequence[int], n_layers: int) -> list[int]:
    """The blocks that attend to the states of these layers.

    >>> readers([2, 3, 7], n_layers=8)
    [3, 4]
    """
    return [layer + 1 for layer in layers if layer + 1 < n_layers]


def first(is_sink: Bool[Tensor, "layer"]) -> float:
    """The first layer at which a token is a sink; NaN if it never is."""
    layers = is_sink.nonzero()[:, 0]
    return float(layers[0]) if len(layers) else torch.nan
