"""`ablate`: switch off the MLP of one layer at one token, for every sink, layer and control."""

from collections.abc import Iterable, Sequence
from typing import Any

from secondary_sinks.causal.controls import Owners, owners_of
from secondary_sinks.causal.donors import token_twins
from secondary_sinks.causal.outcome import (
    clean_sinks,
    edited_sinks,
    first,
    first_settled_layer,
    impossible,
    means_over,
    reached,
)
from secondary_sinks.causal.replay import replay
from secondary_sinks.causal.replayed import Replay
from secondary_sinks.detection import shared_lengths
from secondary_sinks.errors import EditError, TraceError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import true_or_false, whole_number
from secondary_sinks.observation.layers import check_trace
from secondary_sinks.progress import Progress, part_of, shows_progress
from secondary_sinks.types import Edit, Effect, Effects, SinkTable, Thresholds, Trace, as_traces
from secondary_sinks.types.lists import one_or_more, refuse_empty, refuse_twice
from secondary_sinks.types.own_sinks import check_is_sinks


@shows_progress
def ablate(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    edit: str | Sequence[str] = "zero",
    *,
    layers: int | Sequence[int] | None = None,
    ordinary: int = 0,
    kl: bool = True,
    progress: Progress | None = None,
) -> Effects:
    """Ablate the MLP output of each layer at every sink and its controls, and measure the effects.

    Sinks are the secondary and primary-like ones. `layers` are the ablated layers, from 0 (by
    default all). `edit` is the label of any kind of `Edit`, or several: "zero" (the MLP writes
    nothing), "mean" (its mean output over the ordinary tokens of the text), "twins" (over the same
    token elsewhere), "resample:3" (its output at a token drawn with seed 3), "scale:0.5", "none"
    (the no-op). Each cell (token, layer, edit) is computed on its own, exactly, by single-token
    replay; attention is the direct effect (`Effect`).

    Each sink has one matched control (a token twin, else a neighbour) and `ordinary` further
    control tokens of similar position and norm. No control lies in a beginning that an earlier text
    shares, since it is one observation in both. Sinks of texts without a trace are left out, and so
    are means over token twins for a token without twins. `kl=False` saves one unembedding per cell:
    `kl_at_token`, the damage to the prediction at the token, is then NaN.

    Raises `EditError` for unknown edits or layers, for an edit or a layer that is given twice, and
    for a negative number of controls; `TraceError` for no trace, or one of another model or text
    than its sinks.
    """
    labels, chosen = checked_labels(edit), checked_layers(layers)
    whole_number("ordinary", ordinary, EditError, 0)
    true_or_false("kl", kl, EditError)
    texts = as_traces(traces)
    refuse_empty("the list of traces", texts, TraceError)
    check_is_sinks(sinks)
    for trace in texts:
        check_trace(model, trace)
    given: dict[str, Any] = {"layers": chosen, "ordinary": ordinary, "kl": kl}
    begins = shared_lengths([trace.tokens for trace in texts])
    parts = [part_of(progress, number, len(texts)) for number in range(len(texts))]
    return Effects.join(
        ablate_text(model, trace, sinks, labels, part, begin=begin, **given)
        for trace, part, begin in zip(texts, parts, begins, strict=True)
    )


def checked_labels(edit: Any) -> list[str]:
    """The labels of one edit or several. Raises `EditError` for anything else, none or doubles."""
    several = isinstance(edit, Iterable) and not isinstance(edit, str)
    labels = list(edit) if several else [edit]
    refuse_empty("edit", labels, EditError, "at least one label, such as 'zero'")
    meant = [Edit.of_label(label, pos=0, layer=0) for label in labels]
    refuse_twice("edit", labels, EditError, meant)
    return labels


def checked_layers(layers: Any) -> tuple[int, ...] | None:
    """The layers, or None for all. Raises `EditError` for anything else, none or doubles."""
    if layers is None:
        return None
    chosen = one_or_more(layers)
    refuse_empty("layers", chosen, EditError, "at least one, or None for all")
    refuse_twice("layers", chosen, EditError)
    return chosen


def ablate_text(
    model: HookedModel,
    trace: Trace,
    sinks: SinkTable,
    labels: Sequence[str],
    progress: Progress | None = None,
    *,
    layers: Sequence[int] | None,
    ordinary: int,
    kl: bool,
    begin: int,
) -> Effects:
    """`ablate` of one text that begins with `begin` tokens of an earlier one."""
    owners = owners_of(trace, sinks, ordinary, begin)
    every = range(len(trace.norm)) if layers is None else layers
    edits = [
        Edit.of_label(label, pos=pos, layer=layer)
        for label in labels
        for pos in owners
        for layer in every
    ]
    edits = [edit for edit in edits if edit.over != "twins" or token_twins(trace, *edit.positions)]
    if not edits:
        return Effects(rows=())
    result = replay(model, trace, edits, kl=kl, progress=progress)
    return Effects(rows=effects_of(trace, sinks.thresholds, result, owners))


def effects_of(
    trace: Trace, thresholds: Thresholds, result: Replay, owners: Owners
) -> tuple[Effect, ...]:
    """One effect per cell of a replay; each cell must be one edit of one token in `owners`."""
    clean = clean_sinks(trace, thresholds)
    settled = first_settled_layer(trace, thresholds)
    edited = edited_sinks(trace, result, thresholds)
    means = means_over(trace, result, [owners[pos][0].layers for pos in result.positions])
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
                lifetime_clean=int(clean[:, pos].sum()),
                lifetime_edited=int(edited[:, cell].sum()),
                l_start_clean=first(clean[:, pos]),
                l_start_edited=first(edited[:, cell]),
                **means[cell],
                impossible=impossible(trace, sink, reached(edit), settled),
                kl_at_token=float(result.kl[cell]),
            )
        )
    return tuple(rows)
