"""Checks that every edit is possible, before the first forward pass."""

from collections.abc import Collection, Mapping, Sequence

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.types import Cell, Edit, Trace
from secondary_sinks.types.edit_checks import refuse_repeats
from secondary_sinks.types.edit_kinds import KINDS
from secondary_sinks.types.edit_sites import SITE_OF

Places = Collection[tuple[str, int]]
"""(site, layer)."""


def check_cells(
    model: HookedModel,
    trace: Trace,
    cells: Sequence[Cell],
    others: Mapping[str, Trace],
    reference: Places,
) -> None:
    """Raise `EditError` for the first edit that is not possible, and for an empty cell.

    `others` are traces of texts that donors may come from, `reference` the places with a known mean
    over a reference corpus.
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
            _check_needs(edit, trace, others, reference)


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


def _check_needs(edit: Edit, trace: Trace, others: Mapping[str, Trace], reference: Places) -> None:
    kind = KINDS[edit.kind]
    if kind.donor:
        _check_donor(edit, trace, others)
    if kind.directed:
        _check_direction(edit, trace)
    if edit.kind == "mean" and edit.over == "reference":
        for layer in edit.layers:
            if (edit.site, layer) not in reference:
                raise EditError(
                    f"no reference mean of {edit.site} at layer {layer}; measure one with "
                    "reference_means(model, traces) and give it as reference="
                )


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
