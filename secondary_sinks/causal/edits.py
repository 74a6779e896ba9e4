"""What an edit does to an activation."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from secondary_sinks.errors import EditError
from secondary_sinks.measures import is_ordinary
from secondary_sinks.observation import LayerView
from secondary_sinks.types import Edit

Rows = Float[Tensor, "cell d_model"]


def _zero(rows: Rows, view: LayerView) -> Rows:
    return torch.zeros_like(rows)


def _mean(rows: Rows, view: LayerView) -> Rows:
    ordinary: Bool[Tensor, "pos"] = is_ordinary(view.resid_post)
    return view.mlp_out[ordinary].mean(0).expand_as(rows)


def _keep(rows: Rows, view: LayerView) -> Rows:
    return rows


KINDS: dict[str, Callable[[Rows, LayerView], Rows]] = {
    "zero": _zero,
    "mean": _mean,
    "none": _keep,
}
"""zero: nothing is written; mean: what this MLP writes on average at the ordinary tokens of the
same text; none: the output as it is (the no-op that every edit is checked against)."""

SITES = ("mlp_out",)


def check_kind(kind: str) -> None:
    """Raise `EditError` for a kind of edit that is not known."""
    if kind not in KINDS:
        raise EditError(f"unknown edit {kind!r}; expected one of {', '.join(KINDS)}")


def check_edits(edits: Sequence[Edit], n_layers: int, n_pos: int) -> None:
    """Raise `EditError` for the first edit that is not possible, before any forward pass."""
    for edit in edits:
        check_kind(edit.kind)
        if edit.site not in SITES:
            raise EditError(f"unknown site {edit.site!r}; expected one of {', '.join(SITES)}")
        if not 0 <= edit.layer < n_layers:
            raise EditError(f"layer {edit.layer} is out of range; expected 0 to {n_layers - 1}")
        if not 0 <= edit.pos < n_pos:
            raise EditError(f"position {edit.pos} is out of range; expected 0 to {n_pos - 1}")


def apply_edits(rows: Rows, kinds: Sequence[str], view: LayerView) -> Rows:
    """New rows, one kind of edit each; the input is never changed in place."""
    edited = rows.clone()
    for kind in sorted(set(kinds)):
        of_kind = torch.tensor([one == kind for one in kinds], device=rows.device)
        edited[of_kind] = KINDS[kind](rows[of_kind], view).to(rows.dtype)
    return edited
