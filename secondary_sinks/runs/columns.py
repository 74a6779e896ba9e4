"""The schema of the tables: every column with its type, unit and meaning. See docs/files.md."""

from typing import Any, NamedTuple

import pandas as pd

from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs.parquet import SCHEMAS
from secondary_sinks.types.trace_measures import MEASURES


class Column(NamedTuple):
    """One column. `kind` is int, float, bool or str; a number without unit has unit "1"."""

    kind: str
    unit: str
    meaning: str


_WHERE = {
    "model": Column("str", "", "name of the model"),
    "text_id": Column("str", "", "name of the text"),
}
_TOKEN = {
    "pos": Column("int", "position", "place of the token in the text, from 0"),
    "token_id": Column("int", "", "id of the token"),
    "token": Column("str", "", "the token in words"),
}
_NORM, _COSINE = "length of the residual", "cosine"

SINKS = {
    **_WHERE,
    **_TOKEN,
    "kind": Column("str", "", "primary, primary_like, secondary, transient or noise"),
    "criterion": Column("str", "", "joint or paper"),
    "label": Column("str", "", "label of the paper's authors; none by the joint criterion"),
    "l_start": Column("int", "layer", "first layer at which it is a sink"),
    "l_end": Column("int", "layer", "last layer at which it is a sink"),
    "lifetime": Column("int", "layers", "number of layers at which it is a sink"),
    "lifetime_norm": Column("float", "layers", "number of layers at which it is outlying"),
    "lifetime_attention": Column("float", "layers", "number of layers whose state is attended"),
    "segments": Column("str", "layer", "runs of these layers"),
    "level": Column("float", "", "sink level, NaN for none"),
    "copy_of": Column("str", "", "earlier text in which the same sink stood; empty for none"),
    "within_rounding": Column("bool", "", "whether half precision may decide about it"),
    "censored": Column("str", "", "none, left, right, both or unknown"),
    "alignment_max": Column("float", _COSINE, "largest cosine with the primary, in [-1, 1]"),
    "alignment_centred_max": Column("float", _COSINE, "the same, less the typical token"),
    "norm_max": Column("float", _NORM, "largest length of resid_post"),
    "norm_ratio_max": Column("float", "medians", "the same in medians over the text"),
    "mass_max": Column("float", "share of attention", "largest mean attention, in [0, 1]"),
    "mass_excess_max": Column("float", "share of attention", "the same beyond the even share"),
}
_PAIRS = {
    "alignment": (_COSINE, "cosine with the primary, mean over the sink's layers"),
    "alignment_centred": (_COSINE, "the same, less the typical token"),
    "norm": (_NORM, "length of resid_post, mean over the sink's layers"),
    "mass": ("share of attention", "mean attention in the blocks that read these layers"),
}
EFFECTS = {
    **_WHERE,
    **_TOKEN,
    "role": Column("str", "", "sink or control"),
    "kind": Column("str", "", "of a sink as in sinks; of a control twin, neighbour or ordinary"),
    "sink_pos": Column("int", "position", "the sink; for a control the one it is matched with"),
    "layer": Column("int", "layer", "layer of the edit"),
    "site": Column("str", "", "hook point of the edit"),
    "edit": Column("str", "", "the edit, as it was asked for"),
    "effect": Column("str", "", "direct: the queries of later tokens are those of the clean run"),
    "lifetime_clean": Column("int", "layers", "layers at which it is a sink; 0 if transient"),
    "lifetime_edited": Column("int", "layers", "the same after the edit"),
    "l_start_clean": Column("float", "layer", "creation layer, NaN where it is no sink"),
    "l_start_edited": Column("float", "layer", "the same after the edit"),
    **{
        f"{name}_{when}": Column("float", unit, what if when == "clean" else "after the edit")
        for name, (unit, what) in _PAIRS.items()
        for when in ("clean", "edited")
    },
    "kl_at_token": Column("float", "nats", "KL(clean || edited) of the prediction at the token"),
    "impossible": Column(
        "str", "", "what it was too late for: none, end of the sink, loss of attention"
    ),
    "donor": Column("float", "position", "token of a patch, NaN for several and for other edits"),
    "cell": Column("str", "", "key of the cell: the same for the same inputs and code"),
}
TRACE = {
    **_WHERE,
    "layer": Column("int", "layer", "layer of the row"),
    **_TOKEN,
    **{one.name: Column(one.kind, one.unit, one.meaning) for one in MEASURES if one.in_frame},
}
ROLES = {
    **_WHERE,
    **_TOKEN,
    "kind": Column("str", "", "secondary or primary_like"),
    "level": Column("float", "", "sink level, NaN for none"),
    "l_start": Column("int", "layer", "creation layer of the sink"),
    "layer": Column("int", "layer", "layer of the MLP, up to the creation layer"),
    "role": Column("str", "", "writer, enabler, neither or undecided"),
    "why": Column("str", "", "what decided"),
    "ended_zero": Column("bool", "", "zeroing its output ends the sink; decides nothing"),
    "ended_twin": Column("float", "1", "1: its mean output at token twins ends the sink, 0: not"),
    "ended_each": Column("float", "share of twins", "those whose output ends the sink, singly"),
    "created_in_twin": Column("float", "share of twins", "those that its output makes sinks"),
    "rescued_alone": Column("bool", "", "lives with all earlier MLPs zeroed and this one kept"),
    "lives_without": Column("bool", "", "lives with this one zeroed too"),
    "write_alignment": Column("float", _COSINE, "of its output with the primary"),
    "write_null": Column("float", _COSINE, "99th percentile of it for random directions"),
    "n_donors": Column("int", "tokens", "token twins tried; 0 if no twin exists, and then no role"),
}
TABLES = {"sinks": SINKS, "effects": EFFECTS, "trace": TRACE, "roles": ROLES}
_NAN = float("nan")
ADDED: dict[str, Any] = {"model": "", "donor": _NAN, "cell": ""}
ADDED |= {one.name: _NAN for one in MEASURES if one.added}
ADDED |= {"kl_at_token": _NAN, "impossible": "unknown"}
ADDED |= {"lifetime_norm": _NAN, "lifetime_attention": _NAN}
"""Columns that only sweeps or newer versions write, with the value to assume where they are
missing."""
_KINDS = {"int": "iu", "float": "f", "bool": "b", "str": "OU"}


def as_markdown(name: str) -> list[str]:
    """The columns of a table as rows of a Markdown table.

    >>> as_markdown("sinks")[2]
    '| `model` | str |  | name of the model |'
    """
    rows = [
        f"| `{key}` | {one.kind} | {one.unit} | {one.meaning} |"
        for key, one in TABLES[name].items()
    ]
    return ["| column | type | unit | meaning |", "|---|---|---|---|", *rows]


def checked(name: str, frame: pd.DataFrame, model: str) -> pd.DataFrame:
    """The table with the columns of its schema first, in order and of the right types.

    Raises `RunFolderError` if a column is missing or has another type.
    """
    for column, value in ADDED.items():
        if column in TABLES[name] and column not in frame:
            frame = frame.copy()
            frame[column] = model if column == "model" else value
    for column, (kind, _, _) in TABLES[name].items():
        if column not in frame:
            raise RunFolderError(
                f"table {name!r} has no column {column!r}",
                f"expected schema {SCHEMAS[name]}: read "
                "it with the version that wrote it (see run.json), or run again",
            )
        is_text = isinstance(frame[column].dtype, pd.StringDtype)
        if frame[column].dtype.kind not in _KINDS[kind] and not (kind == "str" and is_text):
            raise RunFolderError(
                f"column {column!r} of table {name!r} is {frame[column].dtype}", f"expected {kind}"
            )
    rest = [column for column in frame if column not in TABLES[name]]
    return frame[[*TABLES[name], *rest]]
