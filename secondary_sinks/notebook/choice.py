"""`Choice`: what a person looks at and does, as plain data; and the edit that it stands for."""

import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from secondary_sinks.errors import EditError
from secondary_sinks.types import Edit, edit_kinds

KINDS = {
    "none": "nothing",
    "zero": "zero",
    "mean": "mean of ordinary tokens",
    "patch": "patch from a donor",
    "scale": "scale",
    "remove": "remove the primary's component",
}
"""Edits that are offered, and what they are called."""
SITES = {site.name: site.words for site in edit_kinds.SITES if site.in_residual}
MEASURES = {
    "alignment": "alignment",
    "alignment_centred": "centred alignment",
    "norm_ratio": "norm",
    "mass": "attention mass",
}
"""What the map shows, and what it is called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A token and a layer, what is done there, and what is looked at.

    >>> Choice(pos=20, layer=3, kind="zero").edit()
    Edit(pos=20, layer=3, kind='zero', site='mlp_out', units=(), value=None, over='ordinary', \
donor=None, text='', seed=0)
    >>> Choice(pos=20, layer=3, kind="patch").edit() is None  # no donor yet
    True
    """

    pos: int
    layer: int
    kind: str = "none"
    """One of `KINDS`."""
    site: str = "mlp_out"
    """One of `SITES`."""
    value: float = 0.5
    """What a scale multiplies with; kept while other edits are chosen."""
    donor: int | None = None
    """Position that a patch is taken from; kept likewise."""
    measure: str = "alignment_centred"
    """One of `MEASURES`."""

    def edit(self, pos: int | None = None) -> Edit | None:
        """The edit, at another position if one is given; None where nothing is done yet."""
        at = self.pos if pos is None else pos
        made = Edit(pos=at, layer=self.layer, kind=self.kind, site=self.site)
        if self.kind == "scale":
            return replace(made, value=self.value)
        if self.kind == "patch":
            return None if self.donor is None else replace(made, donor=self.donor)
        return None if self.kind == "none" else made

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as a widget sends it."""
        return asdict(self)


def changed(choice: Choice, changes: dict[str, Any], n_layers: int, n_pos: int) -> Choice:
    """The choice with some fields changed, all checked. Raises `EditError` in words.

    >>> changed(Choice(pos=1, layer=0), {"layer": 9}, n_layers=8, n_pos=20)
    Traceback (most recent call last):
    secondary_sinks.errors.EditError: layer is 9; expected a whole number from 0 to 7
    """
    known = [item.name for item in fields(Choice)]
    for name, value in changes.items():
        if name not in known:
            raise EditError(f"unknown choice {name!r}; expected one of {', '.join(known)}")
        _check(name, value, n_layers, n_pos)
    if "value" in changes:
        changes = changes | {"value": float(changes["value"])}  # a page sends 1.0 as 1
    new = replace(choice, **changes)
    if new.kind == "patch" and new.donor == new.pos:
        raise EditError(f"the donor is the token itself (position {new.pos}); choose another token")
    return new


def _check(name: str, value: Any, n_layers: int, n_pos: int) -> None:
    words = {"kind": KINDS, "site": SITES, "measure": MEASURES}
    if name in words:
        if value not in words[name]:
            raise EditError(f"{name} is {value!r}; expected one of {', '.join(words[name])}")
    elif name == "value":
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise EditError(f"value is {value!r}; expected a finite number")
    elif not (name == "donor" and value is None):
        most = (n_layers if name == "layer" else n_pos) - 1
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise EditError(f"{name} is {value!r}; expected a whole number from 0 to {most}")
