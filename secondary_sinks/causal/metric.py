"""`sweep_metric`: a metric of the user's own under many edits, exact and with controls."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from secondary_sinks.causal.check import Means, by_id, check_cells, means_given, positions_in
from secondary_sinks.causal.controls import ever_sinks
from secondary_sinks.causal.donors import token_twins
from secondary_sinks.causal.recompute import RecomputePass, passes_of, watched_of
from secondary_sinks.causal.recomputed import RecomputedBuilder
from secondary_sinks.causal.recorded import Recorded
from secondary_sinks.display import count
from secondary_sinks.errors import EditError, reason
from secondary_sinks.layerwise.begin import layerwise_forward
from secondary_sinks.layerwise.interface import LayerwiseForward
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.layerwise.visibility import refuse_unreplayable
from secondary_sinks.numbers import real_number
from secondary_sinks.observation.layers import check_trace
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.types import Cell, Edit, SinkTable, Trace, as_cells
from secondary_sinks.types.controls import last_judged, match_controls
from secondary_sinks.types.lists import refuse_empty, refuse_twice
from secondary_sinks.types.metric_sweep import MetricSweep
from secondary_sinks.types.own_sinks import check_is_sinks


@shows_progress
def sweep_metric(
    model: HookedModel,
    trace: Trace,
    edits: Edit | Sequence[Edit | Sequence[Edit]],
    metric: Callable[..., Any],
    *,
    sinks: SinkTable | None = None,
    names: Sequence[str] = (),
    at: int | Sequence[int] | None = None,
    others: Sequence[Trace] = (),
    reference: Means | None = None,
    progress: Progress | None = None,
) -> MetricSweep:
    """A metric of your own in the run of every cell: what `transformer_lens.patching` does.

    `metric(logits)` gets the logits `[1, pos, d_vocab]` of an edited run and returns one number.
    With `names` of hook points of layers it is called as `metric(logits, cache)`, where `cache`
    maps each name to its activation `[1, pos, ...]`. `at` are the positions whose logits are
    needed, such as -1: logits are then `[1, len(at), d_vocab]`, and each cell costs less. All are
    those of a whole forward pass with the same edit, but the tokens before the edited one and the
    layers below the edit are computed once, for all cells.

    With `sinks`, each cell that edits one token is also run at a control: its nearest token twin
    that is not a sink, else the nearest ordinary token. Attention patterns are not recorded. Other
    arguments, and errors, are those of `recompute`; `HookError` for names that cannot be recorded.
    """
    check_trace(model, trace)
    if sinks is not None:
        check_is_sinks(sinks)
    asked = as_cells(edits)
    known, means = by_id(model, others), means_given(reference)
    check_cells(model, trace, asked, known, means)
    refuse_unreplayable(model)
    controls = _controls(trace, asked, sinks)
    twins = [
        tuple(replace(edit, pos=pos) for edit in cell)
        for cell, pos in zip(asked, controls, strict=True)
        if pos is not None
    ]
    run = _Sweep(model, trace, (*asked, *twins), metric, names, _places(at, len(trace.tokens)))
    values = run.values(known, means, progress)
    matched = [number for number, pos in enumerate(controls) if pos is not None]
    control = torch.full((len(asked),), torch.nan)
    control[matched] = values[len(asked) :]
    return MetricSweep(
        text_id=trace.text_id,
        token_strings=trace.token_strings,
        cells=asked,
        clean=run.clean,
        value=values[: len(asked)],
        control_pos=controls,
        control=control,
    )


class _Sweep:
    """The cells of a sweep, pass by pass, and the metric of each."""

    def __init__(
        self,
        model: HookedModel,
        trace: Trace,
        cells: tuple[Cell, ...],
        metric: Callable[..., Any],
        names: Sequence[str],
        places: list[int],
    ) -> None:
        self.model, self.trace, self.cells, self.metric = model, trace, cells, metric
        self.names, self.places = tuple(names), places
        self.clean = torch.nan

    def values(
        self, others: dict[str, Trace], reference: Means, progress: Progress | None
    ) -> Tensor:
        """The metric of every cell; afterwards `clean` is that of the clean run."""
        trace, cells, n_layers = self.trace, self.cells, len(self.trace.norm)
        passes = passes_of(trace, cells, copies=1 + len(self.names)) or [[]]
        table = RecomputedBuilder(trace, cells, watched_of(trace, cells, ()), False)
        found = torch.full((len(cells),), torch.nan)
        for done, numbers in enumerate(passes):
            recorded = Recorded(self.model, self.names)
            one_pass = RecomputePass(
                self.model, trace, numbers, cells, others, reference, table, recorded=recorded
            )
            one_pass.run((done * n_layers, len(passes) * n_layers), progress)
            read = _Logits(self.model, trace, one_pass.clean, self.places)
            self.clean = self._value(read.clean, recorded.of())
            for number in sorted(numbers):
                state = one_pass.states.get(number)
                if state is None:  # nothing was changed, not even one bit
                    found[number] = self.clean
                else:
                    found[number] = self._value(read.edited(state), recorded.of(number))
        return found

    def _value(self, logits: Tensor, cache: dict[str, Tensor]) -> float:
        given = (logits.clone(), cache) if self.names else (logits.clone(),)
        try:
            with torch.no_grad():
                value = self.metric(*given)
        except IndexError as error:
            if len(self.places) == len(self.trace.tokens):
                raise
            raise EditError(
                f"the metric reads beyond its logits ({reason(error)})",
                f"with at= they have {count(len(self.places), 'position')}, those of at= in order: "
                "index them by that, or leave at= out",
            ) from error
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.reshape(())
        return real_number("what the metric returned", value, EditError, "one number")


class _Logits:
    """Logits `[1, place, d_vocab]` of the clean run and of edited ones, at some positions."""

    def __init__(self, model: HookedModel, trace: Trace, clean: Tensor, places: list[int]) -> None:
        self.n_pos, self.places = len(trace.tokens), places
        self.passage = layerwise_forward(model, trace.tokens[:1])
        self.clean = _logits(self.passage, clean[places])[None]

    def edited(self, state: Tensor) -> Tensor:
        """Those of a cell, from the last residuals of its edited token and all later ones."""
        start = self.n_pos - len(state)
        changed = [row for row, place in enumerate(self.places) if place >= start]
        logits = self.clean.clone()
        if changed:
            rows = state[[self.places[row] - start for row in changed]]
            logits[0, changed] = _logits(self.passage, rows)
        return logits


def _logits(passage: LayerwiseForward, resid_post: Tensor) -> Tensor:
    return torch.cat([part.detach() for _, part in passage.logits(resid_post)], -1)


def _places(at: int | Sequence[int] | None, n_pos: int) -> list[int]:
    """The positions whose logits are read; negative ones count from the end."""
    if at is None:
        return list(range(n_pos))
    places = positions_in("`at`", at, n_pos, back=True)
    refuse_empty("`at`", places, EditError, "at least one position, or None for all")
    refuse_twice("`at`", places, EditError)
    return list(places)


def _controls(
    trace: Trace, cells: Sequence[Cell], sinks: SinkTable | None
) -> tuple[int | None, ...]:
    """The control of each cell that edits one token; None for others, and where none is left."""
    if sinks is None:
        return (None,) * len(cells)
    where = [{pos for edit in cell for pos in edit.positions} for cell in cells]
    alone = dict.fromkeys(pos for positions in where if len(positions) == 1 for pos in positions)
    taken = ever_sinks(trace, sinks) | {pos for positions in where for pos in positions}
    taken |= {pos for cell in cells for edit in cell if not edit.text for pos in edit.donors}
    found = match_controls(trace.tokens.tolist(), list(alone), taken, last_judged(trace, sinks))
    partner = {control.sink_pos: control.pos for control in found}
    pairs = [partner.get(*positions) if len(positions) == 1 else None for positions in where]
    return tuple(
        None if pos is not None and _impossible_at(trace, cell, pos) else pos
        for cell, pos in zip(cells, pairs, strict=True)
    )


def _impossible_at(trace: Trace, cell: Cell, pos: int) -> bool:
    """Whether a mean is over twins that the token lacks, or a key does not come before it."""
    lacks = any(edit.over == "twins" for edit in cell) and not token_twins(trace, pos)
    return lacks or any(edit.key is not None and edit.key >= pos for edit in cell)
