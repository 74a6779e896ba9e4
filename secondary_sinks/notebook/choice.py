"""`Choice`: the chosen token, layer, edit and measure, as plain data."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from secondary_sinks.errors import EditError
from secondary_sinks.numbers import finite_number, whole_number
from secondary_sinks.types import Edit, edit_sites, format_layers
from secondary_sinks.types.lists import parse_numbers, refuse_twice

KINDS = {
    "none": "nothing",
    "zero": "zero",
    "mean": "mean of ordinary tokens",
    "patch": "patch from a donor",
    "scale": "scale",
    "remove": "remove the primary's component",
}
"""Kinds of edits in the widget, with their labels."""
SITES = {site.name: site.words for site in edit_sites.SITES if not site.of_pair}
UNITS = {name: f"{edit_sites.SITE_OF[name].unit}s" for name in SITES}
"""What single units of a site are called."""
MEASURES = {
    "alignment": "alignment",
    "alignment_centred": "centred alignment",
    "norm_ratio": "norm",
    "mass": "attention mass",
}
"""Measures of the map, with their labels."""
MOST_UNITS = 1_000_000
"""More than any layer has; a longer range is refused before it is written out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A token, a layer, an edit, and the measure that is shown.

    >>> Choice(pos=20, layer=3, kind="zero").edit()
    Edit(pos=20, layer=3, kind='zero')
    >>> Choice(pos=20, layer=3, kind="patch").edit() is None  # no donor yet
    True
    """

    pos: int
    layer: int
    kind: str = "none"
    """One of `KINDS`."""
    site: str = "mlp_out"
    """One of `SITES`."""
    units: tuple[int, ...] = ()
    """Heads, neurons or coordinates at the site that are edited; empty: all."""
    value: float = 0.5
    """Factor of a scale edit; kept while other edits are chosen."""
    donor: int | None = None
    """Position that a patch is taken from; kept in the same way."""
    measure: str = "alignment_centred"
    """One of `MEASURES`."""

    def __post_init__(self) -> None:
        """Raises `EditError` for a field of another type, as plain numbers and words are kept."""
        for item in fields(self):
            object.__setattr__(self, item.name, _plain(item.name, getattr(self, item.name)))

    def edit(self, pos: int | None = None) -> Edit | None:
        """The edit, at `pos` if it is given; None without an edit, or without a patch's donor."""
        at = self.pos if pos is None else pos
        if self.kind == "none" or (self.kind == "patch" and self.donor is None):
            return None
        value = self.value if self.kind == "scale" else None
        donor = self.donor if self.kind == "patch" else None
        where: dict[str, Any] = {"pos": at, "layer": self.layer, "site": self.site}
        return Edit(**where, units=self.units, kind=self.kind, value=value, donor=donor)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as the widget sends it."""
        return asdict(self) | {"units": format_layers(self.units)}


def apply_changes(choice: Choice, changes: dict[str, Any], n_layers: int, n_pos: int) -> Choice:
    """The choice with changed fields. Raises `EditError` for an invalid one.

    `units` may be text such as "0-3,7". Another site without `units` means all of it.

    >>> apply_changes(Choice(pos=1, layer=0), {"layer": 9}, n_layers=8, n_pos=20)
    Traceback (most recent call last):
    secondary_sinks.errors.EditError: layer is 9; expected a whole number from 0 to 7
    """
    known = [item.name for item in fields(Choice)]
    most = {"pos": n_pos - 1, "donor": n_pos - 1, "layer": n_layers - 1}
    for name in changes:
        if name not in known:
            raise EditError(f"unknown choice {name!r}", f"expected one of {', '.join(known)}")
    changes = {name: _plain(name, value, most.get(name)) for name, value in changes.items()}
    if "units" not in changes and changes.get("site", choice.site) != choice.site:
        changes = changes | {"units": ()}
    new = replace(choice, **changes)
    if new.kind == "patch" and new.donor == new.pos:
        raise EditError(
            f"the donor is the token itself (position {new.pos})", "choose another token"
        )
    return new


def _plain(name: str, value: Any, most: int | None = None) -> Any:
    """A field as a plain number or word. Raises `EditError` for another type, or above `most`."""
    words = {"kind": KINDS, "site": SITES, "measure": MEASURES}.get(name)
    if words is not None:
        if not isinstance(value, str) or value not in words:
            raise EditError(f"{name} is {value!r:.60}", f"expected one of {', '.join(words)}")
        return value
    if name == "units":
        return _units(value)
    if name == "value":
        return finite_number(name, value, EditError)  # a page sends 1.0 as 1
    return None if name == "donor" and value is None else _whole(name, value, most)


def _units(given: Any) -> tuple[int, ...]:
    """Units from numbers or from text such as "0-3,7"."""
    if isinstance(given, list | tuple | range):
        units = tuple(whole_number("a unit", one, EditError, 0) for one in given)
        refuse_twice("units", units, EditError)
        return units
    if not isinstance(given, str):
        raise EditError(f"units is {given!r:.60}", "expected numbers of units, such as '0-3,7'")
    parts = [part for part in given.split(",") if part.strip()]  # one may be on its way
    try:
        return tuple(parse_numbers(",".join(parts), MOST_UNITS)) if parts else ()
    except ValueError as error:
        raise EditError(f"units {given!r:.60}: {error}") from error


def _whole(name: str, value: Any, most: int | None = None) -> int:
    words = "a whole number from 0" + ("" if most is None else f" to {most}")
    number = whole_number(name, value, EditError, 0, words=words)
    if most is not None and number > most:
        raise EditError(f"{name} is {number}", f"expected {words}")
    return number
