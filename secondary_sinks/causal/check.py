"""Checks that every edit is possible, before the first forward pass."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from secondary_sinks.errors import EditError, TraceError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.observation.layers import check_trace
from secondary_sinks.types import Cell, Edit, Trace, as_traces
from secondary_sinks.types.edit_checks import refuse_repeats
from secondary_sinks.types.edit_kinds import KINDS
from secondary_sinks.types.edit_sites import HEADS, SITE_OF
from secondary_sinks.types.lists import one_or_more, refuse_twice

Place = tuple[str, int]
"""(site, layer)."""
Means = Mapping[Place, Tensor]


def by_id(model: HookedModel, others: Any) -> dict[str, Trace]:
    """The traces of texts that donors come from, by the id of the text.

    Raises `TraceError` for anything but traces of this model, and for an id that two of them have.
    """
    traces = as_traces(others)
    for trace in traces:
        check_trace(model, trace)
    refuse_twice("the list of text ids of others=", [one.text_id for one in traces], TraceError)
    return {trace.text_id: trace for trace in traces}


def means_given(reference: Any) -> Means:
    """The means over a reference corpus that were given. Raises `EditError` for anything else."""
    if reference is None:
        return {}
    if not isinstance(reference, Mapping):
        raise EditError(
            f"reference= is {type(reference).__name__}, which has no means by site and layer",
            "expected what reference_means(model, traces) gives",
        )
    return reference


def positions_in(name: str, given: Any, n_pos: int, *, back: bool = False) -> tuple[int, ...]:
    """Positions of a text as given, one or several; `back` allows those that count from the end.

    Raises `EditError` for anything but whole numbers in the text.
    """
    positions = one_or_more(given, f"a position in {name}")
    for pos in positions:
        if not (-n_pos if back else 0) <= pos < n_pos:
            raise EditError(
                f"position {pos} in {name} is out of range", f"expected 0 to {n_pos - 1}"
            )
    return tuple(pos % n_pos for pos in positions)


def check_cells(
    model: HookedModel,
    trace: Trace,
    cells: Sequence[Cell],
    others: Mapping[str, Trace],
    reference: Means,
) -> None:
    """Raise `EditError` for the first edit that is not possible, and for an empty cell.

    `others` are traces of texts that donors may come from, `reference` the known means over a
    reference corpus.
    """
    for cell in cells:
        if not cell:
            raise EditError("a cell has no edit", "expected one or more (the no-op is kind 'none')")
        for edit in cell:
            n_layers, n_pos = trace.norm.shape
            _check_range("layer", edit.layers, n_layers)
            _check_range("position", edit.positions, n_pos)
            for layer in edit.layers:
                require_site(model, layer, edit.site)
            _check_key(edit, n_pos)
            if edit.units:
                site = SITE_OF[edit.site]
                refuse_repeats(site.unit, edit.units)
                _check_range(site.unit, edit.units, site.n_units(model.cfg))
            _check_needs(edit, trace, others)
            if edit.kind == "mean" and edit.over == "reference":
                for layer in edit.layers:
                    _check_mean(model, (edit.site, layer), reference)


def require_site(model: HookedModel, layer: int, site: str) -> None:
    """Raise `EditError` for a site that a layer of this model does not have.

    A bridge calls the output of a mixture of experts `hook_post` too, which has no neurons.
    """
    name, points = hook_name(layer, site), model.hook_dict
    of_experts = site == "post" and points.get(name) is points[hook_name(layer, "mlp_out")]
    if name not in points or of_experts:
        raise EditError(f"this model has no hook point {name!r} for site {site!r}")


def _check_range(name: str, numbers: Sequence[int], n: int) -> None:
    for number in numbers:
        if not 0 <= number < n:
            raise EditError(f"{name} {number} is out of range", f"expected 0 to {n - 1}")


def _check_key(edit: Edit, n_pos: int) -> None:
    if edit.key is None:
        return
    _check_range("key", [edit.key], n_pos)
    if min(edit.positions) <= edit.key:
        raise EditError(
            f"the query at position {min(edit.positions)} does not come after the key at "
            f"{edit.key}, so its attention to it is not edited",
            "expected pos after key; for all later queries, "
            "pos=tuple(range(key + 1, number of tokens))",
        )


def _check_needs(edit: Edit, trace: Trace, others: Mapping[str, Trace]) -> None:
    kind = KINDS[edit.kind]
    if kind.donor:
        _check_donor(edit, trace, others)
    if kind.directed:
        _check_direction(edit, trace)


def _check_mean(model: HookedModel, place: Place, reference: Means) -> None:
    """Raise `EditError` unless there is a mean at this place that can be put there."""
    site, layer = place
    if place not in reference:
        raise EditError(
            f"no reference mean of {site} at layer {layer}; measure one with "
            "reference_means(model, traces) and give it as reference="
        )
    mean, shapes = reference[place], _shapes(model, site)
    if not isinstance(mean, Tensor) or not mean.is_floating_point() or mean.shape not in shapes:
        found = f"{mean.dtype} {[*mean.shape]}" if isinstance(mean, Tensor) else f"{mean!r:.60}"
        raise EditError(
            f"the reference mean of {site} at layer {layer} is {found}",
            f"expected a tensor of floats {' or '.join(str([*one]) for one in shapes)}, as "
            "reference_means(model, traces) gives it",
        )
    if not bool(mean.isfinite().all()):
        raise EditError(
            f"the reference mean of {site} at layer {layer} holds NaN or infinity",
            "expected finite numbers, as reference_means(model, traces) gives them",
        )


def _shapes(model: HookedModel, site: str) -> list[tuple[int, ...]]:
    """Shapes that the activation of one token may have; that of heads may be flat."""
    n = SITE_OF[site].n_units(model.cfg)
    return [(n, model.cfg.d_head), (n * model.cfg.d_head,)] if site in HEADS else [(n,)]


def _check_donor(edit: Edit, trace: Trace, others: Mapping[str, Trace]) -> None:
    if edit.text and edit.text not in others:
        known = ", ".join(map(repr, others)) or "none"
        raise EditError(f"no trace of donor text {edit.text!r} was given as others=; got {known}")
    _check_range("donor", edit.donors, len(others[edit.text] if edit.text else trace))


def _check_direction(edit: Edit, trace: Trace) -> None:
    for layer in edit.layers:
        if not bool(trace.reference_resid[layer].isfinite().all()):
            raise EditError(
                f"edit {edit.kind!r} needs the primary's direction, but no primary stands out at "
                f"layer {layer}"
            )
