"""Checks that every edit is possible, before the first forward pass."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.measures.hook_names import hook_name
from secondary_sinks.types import Cell, Edit, Trace
from secondary_sinks.types.edit_kinds import ALL_SITES, KINDS, OVER, SEEDS, SITE_OF


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Context:
    """The texts and means that edits may refer to."""

    trace: Trace
    others: dict[str, Trace]
    """Other texts that donors may come from, by name."""
    reference: Collection[tuple[str, int]]
    """Sites and layers with a known mean over a reference corpus."""


def check_cells(model: HookedModel, cells: Sequence[Cell], context: Context) -> None:
    """Raise `EditError` for the first edit that is not possible, and for an empty cell."""
    for cell in cells:
        if not cell:
            raise EditError("a cell has no edit", "expected one or more (the no-op is kind 'none')")
        for edit in cell:
            check_words(edit)
            n_layers, n_pos = context.trace.norm.shape
            _check_range("layer", edit.layers, n_layers)
            _check_range("position", edit.positions, n_pos)
            for layer in edit.layers:
                name = hook_name(layer, edit.site)
                if name not in model.hook_dict:
                    raise EditError(f"this model has no hook point {name!r} for site {edit.site!r}")
            if edit.units:
                site = SITE_OF[edit.site]
                _check_range(site.unit, edit.units, getattr(model.cfg, site.width))
            _check_needs(edit, context)


def check_words(edit: Edit) -> None:
    """Raise `EditError` for an unknown kind, site or mean, and for fields that do not combine."""
    if edit.kind not in KINDS:
        raise EditError(f"unknown edit {edit.kind!r}", f"expected one of {', '.join(KINDS)}")
    if edit.site not in SITE_OF:
        raise EditError(f"unknown site {edit.site!r}", f"expected one of {', '.join(ALL_SITES)}")
    if edit.over not in OVER:
        raise EditError(f"unknown mean over {edit.over!r}", f"expected one of {', '.join(OVER)}")
    if edit.site not in KINDS[edit.kind].sites:
        able = [name for name, kind in KINDS.items() if edit.site in kind.sites]
        raise EditError(
            f"edit {edit.kind!r} has no meaning at site {edit.site!r}",
            f"expected one of {', '.join(able)}",
        )
    _check_value(edit)
    if not 0 <= edit.seed < SEEDS:
        raise EditError(f"seed of {edit.kind!r} is {edit.seed}", "expected 0 to 2^32 - 1")
    if edit.units and not SITE_OF[edit.site].unit:
        known = [f"{site.unit}s at {site.name}" for site in SITE_OF.values() if site.unit]
        raise EditError(f"site {edit.site!r} has no units", f"expected {' or '.join(known)}")


def _check_value(edit: Edit) -> None:
    expected = KINDS[edit.kind].value
    if (edit.value is not None) != (expected is not None):
        words = "needs a value" if expected is not None else "takes no value"
        raise EditError(f"edit {edit.kind!r} {words}; got {edit.value}")
    if edit.value is None or expected is None:
        return
    least, most = expected
    if not math.isfinite(edit.value) or not least <= edit.value <= most:
        limits = f" from {least:g}" if least > -math.inf else ""
        limits += f" to {most:g}" if most < math.inf else ""
        raise EditError(
            f"value of {edit.kind!r} is {edit.value}", f"expected a finite number{limits}"
        )


def _check_range(name: str, numbers: Sequence[int], n: int) -> None:
    if not numbers:
        raise EditError(f"an edit names no {name}", "expected at least one")
    for number in numbers:
        if not 0 <= number < n:
            raise EditError(f"{name} {number} is out of range", f"expected 0 to {n - 1}")
    if len(set(numbers)) < len(numbers):
        raise EditError(f"an edit names a {name} twice: {list(numbers)}")


def _check_needs(edit: Edit, context: Context) -> None:
    kind = KINDS[edit.kind]
    if (edit.donor is not None or edit.text) and not kind.donor:
        raise EditError(f"edit {edit.kind!r} takes no donor; only a patch does")
    if kind.donor:
        _check_donor(edit, context)
    if kind.directed:
        _check_direction(edit, context.trace)
    if edit.kind == "mean" and edit.over == "reference":
        for layer in edit.layers:
            if (edit.site, layer) not in context.reference:
                raise EditError(
                    f"no reference mean of {edit.site} at layer {layer}; measure one with "
                    "reference_means(model, traces) and give it as reference="
                )


def _check_donor(edit: Edit, context: Context) -> None:
    if not edit.donors:
        raise EditError("a patch needs a donor: the position that the activation is taken from")
    if edit.text and edit.text not in context.others:
        known = ", ".join(map(repr, context.others)) or "none"
        raise EditError(f"no trace of donor text {edit.text!r} was given as others=; got {known}")
    trace = context.others[edit.text] if edit.text else context.trace
    _check_range("donor", edit.donors, len(trace.tokens))


def _check_direction(edit: Edit, trace: Trace) -> None:
    for layer in edit.layers:
        if not bool(trace.reference_resid[layer].isfinite().all()):
            raise EditError(
                f"edit {edit.kind!r} needs the primary's direction, but no primary stands out at "
                f"layer {layer}"
            )
