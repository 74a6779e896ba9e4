"""`Sink` and `SinkTable`: the result of detection."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

from secondary_sinks.display import Listed, count, table_html, tally
from secondary_sinks.errors import DetectionError, expected_one_of
from secondary_sinks.types.frames import tidy
from secondary_sinks.types.lists import whole_word
from secondary_sinks.types.thresholds import Thresholds, as_thresholds

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class Sink:
    """One sink of one text. Layers and positions are counted from 0.

    Maxima are over the layers at which it is a sink, signed; masses are those in the blocks that
    read these layers.
    """

    text_id: str
    pos: int
    token_id: int
    token: str
    kind: str
    """primary, primary_like (lasts nearly as long as the primary, and is created no later or is at
    least half as massive), secondary, transient (too brief or too weak to count: see
    `Thresholds.persists` and `draws`), or noise (short-lived, by the paper criterion)."""
    criterion: str
    """joint or paper."""
    label: str = "none"
    """Label of the paper criterion: secondary, bos_sink or noise; "none" for the joint one."""
    l_start: int
    """Creation layer: the first layer at which it is a sink."""
    l_end: int
    """The last layer at which it is a sink."""
    lifetime: int
    """Number of layers at which it is a sink (gaps don't count). It depends on the norm test, so
    see also `lifetime_norm` and `lifetime_attention`."""
    lifetime_norm: float = math.nan
    """Number of layers at which it is outlying, whatever else; NaN where unknown."""
    lifetime_attention: float = math.nan
    """Number of layers whose state is attended, whatever its norm and direction; NaN where
    unknown. It shares no test with `lifetime_norm`."""
    layers: tuple[int, ...]
    """The layers at which it is a sink."""
    level: float
    """Sink level: cluster of (l_start, lifetime) over all texts; 0 is the earliest. NaN for sinks
    that are not secondary or belong to no level."""
    copy_of: str = ""
    """Id of an earlier text with the same tokens up to this position, so with the same sink; else
    empty."""
    within_rounding: bool = False
    """Whether half-precision rounding could change that it is a sink, or its kind."""
    censored: str
    """Which end of its life is unknown, because the model ends there or no primary is active next
    to it: none, left, right or both; unknown if the number of layers is not known."""
    alignment_max: float
    alignment_centred_max: float
    norm_max: float
    norm_ratio_max: float
    mass_max: float
    """Largest attention mass of its states, in the blocks that read them."""
    mass_excess_max: float

    @property
    def segments(self) -> str:
        """The layers as ranges, for example "2-8, 11-28"."""
        return format_layers(self.layers)

    def fields(self, *names: str) -> dict[str, Any]:
        """Some of its fields, by name: the first columns of a row about it."""
        return {name: getattr(self, name) for name in names}


MOST_LAYERS = 100_000


def censoring(left: bool, right: bool) -> str:
    """`Sink.censored`, from whether the true start and the true end are hidden."""
    return "both" if left and right else "left" if left else "right" if right else "none"


def parse_layers(segments: str) -> tuple[int, ...]:
    """The layers of ranges as in `format_layers`; raises `ValueError` for anything else.

    >>> parse_layers("2-4, 8")
    (2, 3, 4, 8)
    """
    layers: list[int] = []
    for run in segments.split(", "):
        first, dash, last = run.partition("-")
        start, stop = whole_word(first), whole_word(last if dash else first)
        if not 0 <= start <= stop < MOST_LAYERS or (layers and start <= layers[-1]):
            raise ValueError(f"{segments!r:.60} are not ascending layers below {MOST_LAYERS}")
        layers += range(start, stop + 1)
    return tuple(layers)


def format_layers(layers: Sequence[int]) -> str:
    """Layers as ranges of consecutive layers.

    >>> format_layers([2, 3, 4, 8])
    '2-4, 8'
    """
    runs: list[list[int]] = []
    for layer in sorted(layers):
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


SINK_KINDS = ("primary", "primary_like", "secondary", "transient", "noise")
LASTING = ("secondary", "primary_like")
"""Kinds of sinks that last and matter next to the primary: those that causal questions ask."""


_SHOWN = ("text_id", "pos", "token", "kind", "segments", "lifetime", "level", "mass_max")
"""Columns that a notebook shows."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class SinkTable(Listed[Sink]):
    """Sinks of one or more texts, with the thresholds that they were found by.

    A sequence of sinks: a slice is a `SinkTable` again.
    """

    _items = "sinks"
    sinks: tuple[Sink, ...]
    thresholds: Thresholds = field(default_factory=Thresholds)
    near: tuple[Sink, ...] = ()
    """Tokens that are not sinks, but could be without half-precision rounding."""

    def __post_init__(self) -> None:
        """Raises `DetectionError` for what are no sinks, and no thresholds."""
        object.__setattr__(self, "thresholds", as_thresholds(self.thresholds))
        for name in ("sinks", "near"):
            given = getattr(self, name)
            if not isinstance(given, list | tuple) or not all(isinstance(s, Sink) for s in given):
                raise DetectionError(f"{name} is {given!r:.60}", "expected a tuple of Sink(...)")
            object.__setattr__(self, name, tuple(given))

    def _line(self) -> str:
        texts = count(len({sink.text_id for sink in self.sinks}), "text")
        return f"{tally(sink.kind for sink in self.sinks)}; {texts}" if self.sinks else "no sink"

    def _html(self) -> str:
        return table_html(self.to_frame(), _SHOWN)

    def of_kind(self, *kinds: str) -> "SinkTable":
        """The sinks of the given kinds. Raises `DetectionError` for an unknown kind."""
        for kind in kinds:
            if kind not in SINK_KINDS:
                remedy = expected_one_of(SINK_KINDS, kind)
                raise DetectionError(f"unknown kind of sink {kind!r}", remedy)
        kept = tuple(sink for sink in self.sinks if sink.kind in kinds)
        near = tuple(sink for sink in self.near if sink.kind in kinds)
        return SinkTable(sinks=kept, thresholds=self.thresholds, near=near)

    def of_text(self, text_id: str) -> "SinkTable":
        """The sinks of one text. Raises `DetectionError` for what is no id."""
        if not isinstance(text_id, str):
            raise DetectionError(f"text_id is {text_id!r:.60}", "expected the id of a text")
        kept = tuple(sink for sink in self.sinks if sink.text_id == text_id)
        near = tuple(sink for sink in self.near if sink.text_id == text_id)
        return SinkTable(sinks=kept, thresholds=self.thresholds, near=near)

    def to_frame(self) -> "pd.DataFrame":
        """One row per sink; `layers` become ranges, in the column `segments`.

        The thresholds are in `attrs`, and so are the tokens that are no sinks (`near`).
        """
        frame = tidy(_rows(self.sinks), Sink).rename(columns={"layers": "segments"})
        frame.attrs |= {"thresholds": asdict(self.thresholds), "near": _rows(self.near)}
        return frame

    @staticmethod
    def from_frame(frame: "pd.DataFrame", thresholds: Thresholds | None = None) -> "SinkTable":
        """The inverse of `to_frame`. Raises `DetectionError` for any other frame.

        A frame from a file has lost its `attrs`: give its `thresholds`, which replace those in
        `attrs`. It then has no `near`; those of a run are in run.json, as `near_sinks`.
        """
        _check_columns(frame)
        rows = frame[_COLUMNS].rename(columns={"segments": "layers"}).to_dict("records")
        sinks, near = _sinks_of(rows), _sinks_of(frame.attrs.get("near", []))
        _refuse_doubled(frame)
        return SinkTable(sinks=sinks, thresholds=_limits_of(frame, thresholds), near=near)


_COLUMNS = ["segments" if item.name == "layers" else item.name for item in fields(Sink)]


def _rows(sinks: Sequence[Sink]) -> list[dict[str, Any]]:
    return [asdict(sink) | {"layers": sink.segments} for sink in sinks]


def _check_columns(frame: Any) -> None:
    """Raise `DetectionError` for what is no frame, or lacks a column or has one twice."""
    if not hasattr(frame, "columns") or not hasattr(frame, "attrs"):
        raise DetectionError(
            f"expected a data frame, got {type(frame).__name__}", "use what to_frame() gives"
        )
    names = list(frame.columns)
    wrong = [name for name in _COLUMNS if names.count(name) != 1]
    if wrong:
        what = f"{names.count(wrong[0])} columns" if wrong[0] in names else "no column"
        raise DetectionError(
            f"not a table of sinks of this version: it has {what} {wrong[0]!r}",
            "run detection again",
        )


def _limits_of(frame: "pd.DataFrame", given: Thresholds | None) -> Thresholds:
    """The thresholds given, else all of those in `attrs`. Raises `DetectionError` without any."""
    stored = frame.attrs.get("thresholds")
    if given is not None:
        return as_thresholds(given)
    if not isinstance(stored, Mapping) or stored.keys() != asdict(Thresholds()).keys():
        raise DetectionError(
            "the frame does not say all thresholds in its attrs, which a file does not keep",
            'give thresholds=, such as Thresholds(**record["thresholds"]) of run.json, or '
            "Thresholds() if they were the defaults",
        )
    return Thresholds(**stored)


def _sinks_of(rows: Sequence[dict[Any, Any]]) -> tuple[Sink, ...]:
    try:
        return tuple(map(_from_row, rows))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DetectionError(f"not a table of sinks: {error}") from error


def _refuse_doubled(frame: "pd.DataFrame") -> None:
    """Raise `DetectionError` for a token that has two rows (of one model, if that is named)."""
    key = [name for name in ("model", "text_id", "pos") if name in frame]
    doubled = frame.loc[frame.duplicated(key), ["text_id", "pos"]]
    if len(doubled):
        text_id, pos = doubled.iloc[0]
        raise DetectionError(
            f"not a table of sinks: position {pos} of text {text_id!r:.60} has two rows",
            "expected one row per sink",
        )


def _from_row(row: dict[Any, Any]) -> Sink:
    """The sink of a row; raises `ValueError` that names a value of a wrong type or range."""
    kinds: dict[str, Any] = {item.name: item.type for item in fields(Sink)} | {"layers": str}
    values = {str(name): value for name, value in row.items()}
    for name, value in values.items():
        kind: Any = (int, float) if kinds[name] is float else kinds[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ValueError(f"{name} is {value!r:.60}; expected {kinds[name].__name__}")
    if values["kind"] not in SINK_KINDS:
        raise ValueError(f"kind is {values['kind']!r:.60}; expected some of {SINK_KINDS}")
    most = dict.fromkeys(("l_start", "l_end", "lifetime"), MOST_LAYERS) | {"pos": 2**53}
    for name, limit in most.items():
        if not 0 <= values[name] <= limit:
            raise ValueError(f"{name} is {values[name]}; expected 0 to {limit}")
    return Sink(**(values | {"layers": parse_layers(values["layers"])}))
