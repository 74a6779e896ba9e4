"""Each text as a strip of its tokens, with the sinks marked."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from secondary_sinks.plots.labels import make_visible
from secondary_sinks.report.words import count, format_number, percent

MOST_TOKENS = 40_000
"""Most tokens drawn in full over all texts; later texts show only the tokens around their sinks."""
MOST_SINKS = 2000
"""Most rows of the table of all sinks."""
AROUND, EXCERPT = 12, 22
"""Tokens on each side of a sink: in a strip that is not whole, and in the excerpt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A token, or a gap between tokens, in a strip."""

    text: str
    kind: str
    """"ordinary", "gap", or the kind of sink."""
    says: str = ""
    """Tooltip of a sink."""
    strength: float = 0.0
    """Colour intensity of a sink, 0 to 1."""
    key: str = ""
    """Which sink it is, the same wherever it is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The tokens of one text."""

    text_id: str
    title: str
    pieces: tuple[Piece, ...]
    whole: bool


def sink_key(text_id: str, pos: int) -> str:
    """A name for a sink that is safe in HTML: a hash of its text's id, and its position.

    >>> sink_key("one", 40)
    '7692c3ad3540-40'
    """
    return f"{hashlib.sha256(text_id.encode(errors='surrogatepass')).hexdigest()[:12]}-{pos}"


def strips(record: dict[str, Any], trace: pd.DataFrame, sinks: pd.DataFrame) -> list[Strip]:
    """One strip per text, in the order of the record."""
    first = trace[trace["layer"] == trace["layer"].min()].sort_values("pos")
    tokens = {str(text_id): cells["token"].tolist() for text_id, cells in first.groupby("text_id")}
    by_text = dict(list(sinks.groupby("text_id"))) if len(sinks) else {}
    found, budget = [], MOST_TOKENS
    for text in record["texts"]:
        text_id = text["text_id"]
        if text_id not in tokens:
            continue
        budget -= text["n_tokens"]
        own, n_tokens = by_text.get(text_id, sinks.iloc[:0]), len(tokens[text_id])
        kept = range(n_tokens) if budget >= 0 else _around(own["pos"], n_tokens, AROUND)
        found.append(_strip(text_id, _title(text, own), tokens[text_id], own, kept))
    return found


def excerpt(trace: pd.DataFrame, sinks: pd.DataFrame, text_id: str, pos: int) -> Strip:
    """The tokens around one sink, and the primary of its text with its neighbours."""
    own = sinks[sinks["text_id"] == text_id]
    cells = trace[(trace["text_id"] == text_id) & (trace["layer"] == trace["layer"].min())]
    tokens = cells.sort_values("pos")["token"].tolist()
    primary = own.loc[own["kind"] == "primary", "pos"]
    kept = {*_around([pos], len(tokens), EXCERPT), *_around(primary, len(tokens), 2)}
    return _strip(text_id, "", tokens, own, sorted(kept))


def _strip(
    text_id: str, title: str, tokens: list[str], sinks: pd.DataFrame, kept: Sequence[int]
) -> Strip:
    marks = {int(sink["pos"]): sink for sink in sinks.to_dict("records")}
    pieces, last = [], -1
    for pos in kept:
        if pos > last + 1:
            pieces.append(_gap(pos - last - 1))
        pieces.append(_piece(tokens[pos], marks.get(pos), sink_key(text_id, pos)))
        last = pos
    if last + 1 < len(tokens):
        pieces.append(_gap(len(tokens) - last - 1))
    whole = len(kept) == len(tokens)
    return Strip(text_id=text_id, title=title, pieces=tuple(pieces), whole=whole)


def _around(positions: Iterable[int], n_tokens: int, reach: int) -> list[int]:
    near = {at for pos in positions for at in range(pos - reach, pos + reach + 1)}
    return sorted(pos for pos in near if 0 <= pos < n_tokens)


def _gap(n_tokens: int) -> Piece:
    return Piece(text=f" … {count(n_tokens, 'token')} … ", kind="gap")


def _piece(text: str, sink: dict[Any, Any] | None, key: str) -> Piece:
    if sink is None:
        return Piece(text=in_text(text), kind="ordinary")
    says = (
        f"{sink['kind'].replace('_', '-')} sink, position {sink['pos']}, "
        f"{in_layers(str(sink['segments']))}, peak mass {percent(sink['mass_max'])}, "
        f"norm {format_number(sink['norm_ratio_max'])} times the median"
    )
    mass = sink["mass_max"]  # its square root keeps weak sinks visible next to the primary
    strength = 0.0 if math.isnan(mass) else round(math.sqrt(min(max(mass, 0.0), 1.0)), 2)
    return Piece(text=make_visible(text), kind=sink["kind"], says=says, strength=strength, key=key)


def in_text(text: str) -> str:
    """A token among others: spaces stay spaces, and lines break where they did."""
    return make_visible(text, keep=" \n").replace("\n", "⏎\n")


def in_layers(segments: str) -> str:
    """The layers of a sink, in words.

    >>> in_layers("2"), in_layers("2-8")
    ('layer 2', 'layers 2-8')
    """
    return f"{'layer' if segments.isdecimal() else 'layers'} {segments}"


def _title(text: dict[str, Any], sinks: pd.DataFrame) -> str:
    kinds = sinks["kind"].value_counts()
    words = [
        count(text["n_tokens"], "token"),
        count(int(kinds.get("secondary", 0)), "secondary sink"),
    ]
    if "primary" not in kinds:
        words.append("no active primary")
    if "primary_like" in kinds:
        words.append(f"{kinds['primary_like']} primary-like")
    if "transient" in kinds:
        words.append(f"{kinds['transient']} transient")
    return ", ".join(words)
