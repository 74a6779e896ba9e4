"""Recipes: labels of edits that are applied to many tokens; the donor may depend on the token.

A recipe is the label of an `Edit` ("zero", "mean", "mean:twins", "resample:3", "scale:0.5",
"set_norm:100", "patch:12"), or one of these two:

    patch:twin   at a sink or control: the activation of its nearest token twin that is not a sink
    patch:sink   at a control: the activation of the sink that it is matched with

"patch:twin" tests whether a sink needs the activation that it has and its twins lack (necessity,
by noising); "patch:sink" whether that activation makes another token a sink (sufficiency, by
denoising).
"""

from secondary_sinks.causal.controls import Owners, never_sinks
from secondary_sinks.causal.donors import token_twins
from secondary_sinks.errors import EditError
from secondary_sinks.types import Edit, SinkTable, Trace
from secondary_sinks.types.edit_kinds import KINDS

TWIN, SINK = "patch:twin", "patch:sink"
COMPLETED = (TWIN, SINK)


def check_recipe(label: str, site: str = "mlp_out") -> None:
    """Raise `EditError` for an unknown recipe, or one that a sweep cannot apply at a site."""
    if label in COMPLETED:
        Edit(pos=0, layer=0, kind="patch", donor=0, site=site)
        return
    try:
        edit = Edit.of_label(label, pos=0, layer=0, site=site)
    except EditError as error:
        if label.startswith("patch"):
            raise EditError(f"{error}; also {' and '.join(COMPLETED)}") from error
        raise
    if any(place < 0 for place in (*edit.donors, edit.key or 0)):
        raise EditError(f"edit {label!r} names no position", "expected 0 or more")
    if edit.text:
        raise EditError(
            f"edit {label!r} takes its donor from another text; a sweep patches within a text: "
            "use patch:twin, patch:sink or patch:POSITION"
        )
    if edit.kind == "mean" and edit.over == "reference":
        raise EditError("edit 'mean:reference' needs a reference corpus", "use mean or mean:twins")


def meaning(label: str, site: str = "mlp_out") -> Edit | str:
    """Key that is equal for two labels of the same edit, such as `scale:0.5` and `scale:0.50`.

    Raises `EditError` for an unknown label.
    """
    return label if label in COMPLETED else Edit.of_label(label, pos=0, layer=0, site=site)


def edit_at(
    label: str, trace: Trace, sinks: SinkTable, owners: Owners, *, pos: int, layer: int, site: str
) -> Edit | str:
    """The edit of a recipe at a token and layer, or the reason as text why there can be no edit.

    `owners` are the edited tokens (`owners_of`), `sinks` all sinks of the text.
    """
    sink, control = owners[pos]
    if label == SINK:
        if control is None:
            return "a sink cannot be patched from itself"
        return Edit(pos=pos, layer=layer, site=site, kind="patch", donor=sink.pos)
    if label == TWIN:
        twin = nearest_twin(trace, sinks, pos)
        if twin is None:
            return "no token twin that is not a sink"
        return Edit(pos=pos, layer=layer, site=site, kind="patch", donor=twin)
    edit = Edit.of_label(label, pos=pos, layer=layer, site=site)
    if edit.kind == "mean" and edit.over == "twins" and not token_twins(trace, pos):
        return "no ordinary token twin"
    if KINDS[edit.kind].directed and not bool(trace.reference_resid[layer].isfinite().all()):
        return "the primary has no direction yet at this layer"
    if any(not 0 <= donor < len(trace.tokens) for donor in edit.donors):
        return "the donor position is outside the text"
    if edit.key is not None and edit.key >= pos:
        return "the key does not come before the token"
    return edit


def nearest_twin(trace: Trace, sinks: SinkTable, pos: int) -> int | None:
    """The nearest token with the same id that is not a sink at any layer; None if none exists."""
    able = [other for other in never_sinks(trace, sinks, int(trace.tokens[pos])) if other != pos]
    return min(able, key=lambda other: (abs(other - pos), other), default=None)
