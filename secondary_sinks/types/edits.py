"""`Edit`: an intervention on activations, as plain data that converts to JSON and back."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from secondary_sinks import files
from secondary_sinks.display import Displayed
from secondary_sinks.errors import EditError, expected_one_of
from secondary_sinks.types.edit_checks import FIELDS, as_field, check_edit, fields_given
from secondary_sinks.types.edit_kinds import KINDS, EditKind
from secondary_sinks.types.lists import number_word, whole_word

Cell = tuple["Edit", ...]
"""Edits that are made together in one run, in order; later edits see the result of earlier ones."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Edit(Displayed):
    """A change of one activation at one or more tokens and layers, counted from 0.

    `kind` says what the activation becomes, `site` which activation it is: rows of
    `edit_kinds.EDIT_KINDS` and `edit_sites.SITES`, which also say which of the fields below a kind
    needs, and at which sites it is possible (docs/edits.md shows both tables). The primary's
    direction is that of its `resid_post` at the layer of the edit. Lists and whole numbers of other
    libraries become tuples and `int`. Raises `EditError` for an unknown kind or site, and for
    fields that do not combine.

    >>> Edit(pos=7, layer=(2, 3), kind="scale", value=0.5).to_json()
    '{"pos": 7, "layer": [2, 3], "kind": "scale", "value": 0.5}'
    >>> Edit.from_json('{"pos": 7, "layer": [2, 3]}').layers
    (2, 3)
    """

    pos: int | tuple[int, ...]
    """Position of the token, or of several."""
    layer: int | tuple[int, ...]
    """Layer, or several."""
    kind: str = "zero"
    """What the activation becomes."""
    site: str = "mlp_out"
    """The hook point."""
    units: tuple[int, ...] = ()
    """Indices of heads, neurons or coordinates, by the site; empty means all."""
    value: float | None = None
    """The number of kinds that have one: a factor, a norm or a length in units of the residual, or
    an angle in degrees."""
    over: str = "ordinary"
    """The tokens that a mean is taken over: ordinary (those of the text), twins (ordinary tokens
    with the same token id) or reference (ordinary tokens of a reference corpus)."""
    donor: int | tuple[int, ...] | None = None
    """Position that a patch is taken from; with several positions, their mean."""
    key: int | None = None
    """Position of the earlier token whose attention from the tokens at `pos` is edited."""
    text: str = ""
    """Id of the donors' text; empty means the same text."""
    seed: int = 0
    """Random seed for drawing a donor (resample) or a direction (rotate)."""

    def __post_init__(self) -> None:
        for name in FIELDS:
            object.__setattr__(self, name, as_field(name, getattr(self, name)))
        check_edit(self)

    def _line(self) -> str:
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in self.to_dict())

    def _html(self) -> str:
        return ""

    @property
    def positions(self) -> tuple[int, ...]:
        """Positions of all edited tokens."""
        return self.pos if isinstance(self.pos, tuple) else (self.pos,)

    @property
    def layers(self) -> tuple[int, ...]:
        """All edited layers."""
        return self.layer if isinstance(self.layer, tuple) else (self.layer,)

    @property
    def donors(self) -> tuple[int, ...]:
        """Positions that a patch is taken from; empty for other edits."""
        if self.donor is None:
            return ()
        return self.donor if isinstance(self.donor, tuple) else (self.donor,)

    @property
    def label(self) -> str:
        """Short name of the edit without its place, for tables and figures.

        >>> Edit(pos=1, layer=0, kind="mean", over="twins").label
        'mean:twins'
        """
        detail = _detail(self)
        units = f"[{','.join(map(str, self.units))}]" if self.units else ""
        return (f"{self.kind}:{detail}" if detail else self.kind) + units

    @staticmethod
    def of_label(
        label: str, pos: int | tuple[int, ...], layer: int | tuple[int, ...], **where: Any
    ) -> "Edit":
        """The edit of a label, at a position and layer; `where` may give `site` and `units`.

        Raises `EditError` for an unknown label.

        >>> Edit.of_label("scale:0.5", pos=7, layer=2).value
        0.5
        >>> Edit.of_label("twins", pos=7, layer=2).label  # the short form
        'mean:twins'
        >>> Edit.of_label("patch:3+12", pos=7, layer=2).donor
        (3, 12)
        """
        kind, detail = _parts(label)
        return Edit(pos=pos, layer=layer, kind=kind, **_details(kind, detail, label), **where)

    def to_dict(self) -> dict[str, Any]:
        """The fields that differ from their defaults, in types that JSON has."""
        return fields_given(self, {"pos", "layer", "kind"})

    @staticmethod
    def from_dict(given: Any) -> "Edit":
        """The inverse of `to_dict`. Raises `EditError` for unknown or missing fields."""
        if not isinstance(given, dict):
            raise EditError(f"expected an edit as an object with pos and layer; got {given!r}")
        known = [item.name for item in fields(Edit)]
        unknown = sorted(given.keys() - known)
        if unknown or not {"pos", "layer"} <= given.keys():
            wrong = f"unknown {unknown[0]!r}" if unknown else "pos or layer is missing"
            raise EditError(f"{wrong} in an edit", f"expected some of {', '.join(known)}")
        return Edit(**{name: as_field(name, value) for name, value in given.items()})

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.to_dict())

    @staticmethod
    def from_json(line: str) -> "Edit":
        """The inverse of `to_json`. Raises `EditError` for anything else."""
        return Edit.from_dict(_parse_json(line))


SHORT = {"twins": "mean:twins"}
"""Short forms of labels."""


def _parts(label: Any) -> tuple[str, str]:
    """The kind of a label and the rest, which may be empty. Raises `EditError` for no label."""
    if not isinstance(label, str):
        raise EditError(
            f"expected the label of an edit, got {label!r:.60}", f"expected like {_LIKE}"
        )
    kind, colon, detail = SHORT.get(label, label).partition(":")
    if kind not in KINDS:
        raise EditError(f"unknown edit {kind!r}", expected_one_of([*KINDS, *SHORT], kind))
    if colon and (not detail or detail.endswith(":")):
        raise EditError(
            f"cannot read edit {label!r} (nothing comes after a colon)", f"expected like {_LIKE}"
        )
    return kind, detail


def _detail(edit: Edit) -> str:
    """The second part of a label: the parameters of the kind; empty where they are the defaults."""
    kind = KINDS.get(edit.kind)
    if kind is not None and kind.key:
        return f"{edit.key}" if edit.value is None else f"{edit.key}:{_shown(edit.value)}"
    if kind is None or kind.value is not None:
        value = "" if edit.value is None else _shown(edit.value)
        return f"{value}:{edit.seed}" if value and kind is not None and kind.seed else value
    if kind.donor:
        donors = "+".join(map(str, edit.donors))
        return f"{edit.text}@{donors}" if edit.text else donors
    if kind.over:
        return "" if edit.over == kind.over[0] else edit.over
    if kind.seed:
        return str(edit.seed)
    return "" if edit.value is None else _shown(edit.value)


def _shown(value: float) -> str:
    """All digits of a value, so that different edits have different labels.

    >>> _shown(1000001.0), _shown(0.1234567)
    ('1000001', '0.1234567')
    """
    return repr(value).removesuffix(".0")


def _details(name: str, detail: str, label: str) -> dict[str, Any]:
    """Fields that the second part of a label stands for."""
    kind = KINDS.get(name)
    try:
        if kind is not None and kind.key:
            return _key_and_value(detail)
        if kind is not None and kind.value is not None:
            return _value_and_seed(kind, detail)
        if kind is not None and kind.donor:
            text, _, donor = detail.rpartition("@")
            donors = tuple(map(whole_word, donor.split("+")))
            return {"text": text, "donor": donors if len(donors) > 1 else donors[0]}
        if kind is not None and kind.seed:
            return {"seed": whole_word(detail) if detail else 0}
    except ValueError as error:
        raise EditError(
            f"cannot read edit {label!r} ({error})", f"expected like {_LIKE}"
        ) from error
    if kind is not None and kind.over:
        return {"over": detail or kind.over[0]}
    if detail:
        raise EditError(f"edit {name!r} takes no {detail!r}", f"expected like {_LIKE}")
    return {}


def _value_and_seed(kind: EditKind, detail: str) -> dict[str, Any]:
    value, _, seed = detail.partition(":")
    if seed and not kind.seed:
        raise ValueError(f"{kind.name} takes no seed")
    found = {"value": number_word(value)}
    return found | ({"seed": whole_word(seed)} if seed else {})


def _key_and_value(detail: str) -> dict[str, Any]:
    key, _, value = detail.partition(":")
    found = {"key": whole_word(key)}
    return found | ({"value": number_word(value)} if value else {})


_LIKE = "zero, twins, mean, resample:3, scale:0.5, set_norm:100, rotate:90, patch:12, knockout:0"


def as_cell(edit: Edit | Sequence[Edit]) -> Cell:
    """One edit, or several edits that are made together, as a cell. Raises `EditError`."""
    cell = tuple(edit) if isinstance(edit, list | tuple) else (edit,)
    for one in cell:
        if not isinstance(one, Edit):
            raise EditError(
                f"expected an Edit, got {one!r:.60}",
                "expected like Edit(pos=20, layer=3), or Edit.of_label('zero', pos=20, layer=3)",
            )
    return cell


def as_cells(edits: Edit | Iterable[Edit | Sequence[Edit]]) -> tuple[Cell, ...]:
    """Several cells; one edit alone is one cell. Raises `EditError` for anything else."""
    alone = isinstance(edits, Edit | str) or not isinstance(edits, Iterable)
    return tuple(map(as_cell, [edits] if alone else edits))  # type: ignore[arg-type]


def positions_of(edits: Iterable[Edit]) -> list[int]:
    """The positions that some edits change, in order."""
    return sorted({pos for edit in edits for pos in edit.positions})


def dump_cells(cells: Iterable[Edit | Sequence[Edit]]) -> str:
    """Cells as JSON lines, one list of edits per line.

    >>> dump_cells([Edit(pos=7, layer=2)])
    '[{"pos": 7, "layer": 2, "kind": "zero"}]\\n'
    """
    lists = ([edit.to_dict() for edit in cell] for cell in as_cells(cells))
    return "".join(json.dumps(one) + "\n" for one in lists)


def load_cells(lines: str) -> list[Cell]:
    """The inverse of `dump_cells`; a line may also be a single edit. Raises `EditError`.

    >>> load_cells('[{"pos": 7, "layer": 2}]')[0][0].kind
    'zero'
    """
    if not isinstance(lines, str):
        raise EditError(f"expected lines of edits in JSON; got {lines!r:.60}")
    parsed = [_parse_json(line) for line in lines.split("\n") if line.strip()]
    lists = [one if isinstance(one, list) else [one] for one in parsed]
    return [tuple(Edit.from_dict(edit) for edit in one) for one in lists]


def _parse_json(line: Any) -> Any:
    if not isinstance(line, str):
        raise EditError(f"expected an edit in JSON; got {line!r:.60}")
    try:
        return files.load_json(line)
    except (ValueError, RecursionError) as error:
        raise EditError(f"expected an edit in JSON; got {line[:80]!r} ({error})") from error
