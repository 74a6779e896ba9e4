"""What each kind of edit makes of an activation: the arithmetic, and where each is possible."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from secondary_sinks.errors import EditError
from secondary_sinks.types import Edit

Row = Float[Tensor, "*site"]

RESIDUAL_SITES = ("mlp_out", "attn_out", "resid_post")
SITES = (*RESIDUAL_SITES, "z", "post")
REPLACING = frozenset({"mean", "resample", "patch"})
"""Kinds that put something given in the place of an activation."""
DIRECTED = frozenset({"remove", "keep", "steer"})
"""Kinds that need the primary's direction."""
VALUED = frozenset({"scale", "set_norm", "rotate", "steer"})
"""Kinds that need a `value`."""
OVER = ("ordinary", "twins", "reference")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Given:
    """What an edit needs besides the activation itself."""

    row: Row | None = None
    """What is put in its place, for the kinds that replace."""
    direction: Float[Tensor, "d_model"] | None = None
    """The primary's direction, of length 1."""


def _none(row: Row, edit: Edit, given: Given) -> Row:
    return row


def _zero(row: Row, edit: Edit, given: Given) -> Row:
    return torch.zeros_like(row)


def _replace(row: Row, edit: Edit, given: Given) -> Row:
    assert given.row is not None
    return given.row


def _scale(row: Row, edit: Edit, given: Given) -> Row:
    return row * _value(edit)


def _set_norm(row: Row, edit: Edit, given: Given) -> Row:
    length = row.norm(dim=-1, keepdim=True)
    if not bool((length > 0).all()):
        raise EditError("the norm of a zero activation cannot be set; it has no direction")
    return row * (_value(edit) / length)


def _rotate(row: Row, edit: Edit, given: Given) -> Row:
    chance = torch.Generator().manual_seed(edit.seed)
    other = torch.randn(row.shape, generator=chance).to(row.device)
    length = row.norm(dim=-1, keepdim=True)
    ahead = row / length.clamp(min=1e-30)
    across = other - (other * ahead).sum(-1, keepdim=True) * ahead
    across = across / across.norm(dim=-1, keepdim=True)
    angle = math.radians(_value(edit))
    return row * math.cos(angle) + across * (length * math.sin(angle))


def _component(row: Row, given: Given) -> Row:
    assert given.direction is not None
    return (row @ given.direction) * given.direction


def _remove(row: Row, edit: Edit, given: Given) -> Row:
    return row - _component(row, given)


def _keep(row: Row, edit: Edit, given: Given) -> Row:
    return _component(row, given)


def _steer(row: Row, edit: Edit, given: Given) -> Row:
    assert given.direction is not None
    return row + _value(edit) * given.direction


def _value(edit: Edit) -> float:
    assert edit.value is not None
    return edit.value


KINDS: dict[str, Callable[[Row, Edit, Given], Row]] = {
    "none": _none,
    "zero": _zero,
    "mean": _replace,
    "resample": _replace,
    "patch": _replace,
    "scale": _scale,
    "set_norm": _set_norm,
    "rotate": _rotate,
    "remove": _remove,
    "keep": _keep,
    "steer": _steer,
}
"""In float32, on whole activations or on single heads `[head, d_head]` or neurons `[neuron]`."""


def is_possible(kind: str, site: str) -> bool:
    """Whether a kind of edit has a meaning at a site.

    Heads have no part along a direction of the residual; single neurons have no direction.
    """
    if site in RESIDUAL_SITES:
        return True
    return kind not in DIRECTED and (site == "z" or kind not in {"set_norm", "rotate"})


def edited(row: Row, edit: Edit, given: Given) -> Row:
    """The activation of one token at one site as an edit makes it; `row` is not changed.

    Computed in float32 and given back in the dtype of `row`. Bit-equal where the edit changes
    nothing.
    """
    units = list(edit.units)
    part = row[units] if units else row
    given_row = given.row if given.row is None or not units else given.row[units]
    mine = Given(row=given_row, direction=given.direction)
    new = KINDS[edit.kind](part.float(), edit, mine).to(row.dtype)
    if not units:
        return new.expand_as(row)
    whole = row.clone()
    whole[units] = new
    return whole
