"""The schema of the tables: every column with its type, unit and meaning. See docs/files.md."""

from typing import Any, NamedTuple

import pandas as pd

from secondary_sinks.display import markdown_table
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
    "pos": Column("int", "position", "position of the token in the text, from 0"),
    "token_id": Column("int", "", "id of the token"),
    "token": Column("str", "", "string of the token"),
}
_NORM, _COSINE = "length of the residual", "cosine"

SINKS = {
    **_WHERE,
    **_TOKEN,
    "kind": Column("str", "", "primary, primary_like, secondary, transient or noise"),
    "criterion": Column("str", "", "joint or paper"),
    "label": Column("str", "", "label of the paper's authors; none for the joint criterion"),
    "l_start": Column("int", "layer", "first layer at which it is a sink"),
    "l_end": Column("int", "layer", "last layer at which it is a sink"),
    "lifetime": Column("int", "layers", "number of layers at which it is a sink"),
    "lifetime_norm": Column("float", "layers", "number of layers at which it is outlying"),
    "lifetime_attention": Column("float", "layers", "number of layers at which it is attended"),
    "segments": Column("str", "layer", "ranges of layers at which it is a sink"),
    "level": Column("float", "", "sink level, NaN if it has no level"),
    "copy_of": Column("str", "", "earlier text that has the same sink; empty if no text has"),
    "within_rounding": Column(
        "bool", "", "whether rounding in half precision may decide that it is a sink"
    ),
    "censored": Column("str", "", "cut-off end of its life: none, left, right, both or unknown"),
    "alignment_max": Column("float", _COSINE, "largest cosine with the primary, in [-1, 1]"),
    "alignment_centred_max": Column("float", _COSINE, "the same, minus the typical token"),
    "norm_max": Column("float", _NORM, "largest norm of resid_post"),
    "norm_ratio_max": Column("float", "medians", "the same in medians over the text"),
    "mass_max": Column("float", "share of attention", "largest mean attention, in [0, 1]"),
    "mass_excess_max": Column("float", "share of attention", "the same beyond the even share"),
}
_PAIRS = {
    "alignment": (_COSINE, "cosine with the primary, mean over the sink's layers"),
    "alignment_centred": (_COSINE, "the same, minus the typical token"),
    "norm": (_NORM, "norm of resid_post, mean over the sink's layers"),
    "mass": ("share of attention", "mean attention in the blocks that read these layers"),
}
EFFECTS = {
    **_WHERE,
    **_TOKEN,
    "role": Column("str", "", "sink or control"),
    "kind": Column(
        "str", "", "kind of the sink as in sinks; for controls twin, neighbour or ordinary"
    ),
    "sink_pos": Column(
        "int", "position", "position of the sink; for a control, of its matched sink"
    ),
    "layer": Column("int", "layer", "layer of the edit"),
    "site": Column("str", "", "hook point of the edit"),
    "edit": Column("str", "", "label of the edit"),
    "effect": Column("str", "", "direct: the queries of later tokens are those of the clean run"),
    "lifetime_clean": Column("int", "layers", "layers at which it is a sink; 0 if transient"),
    "lifetime_edited": Column("int", "layers", "the same after the edit"),
    "l_start_clean": Column("float", "layer", "creation layer, NaN if it is not a sink"),
    "l_start_edited": Column("float", "layer", "the same after the edit"),
    **{
        f"{name}_{when}": Column("float", unit, what if when == "clean" else "after the edit")
        for name, (unit, what) in _PAIRS.items()
        for when in ("clean", "edited")
    },
    "kl_at_token": Column("float", "nats", "KL(clean || edited) of the prediction at the token"),
    "impossible": Column(
        "str",
        "",
        "what the edit is too late to cause: none, end (of the sink), weaken (a loss of a "
        "tenth of its attention), loss (of any)",
    ),
    "donor": Column(
        "float", "position", "donor token of a patch; NaN for several donors and for other edits"
    ),
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
    "level": Column("float", "", "sink level, NaN if it has no level"),
    "l_start": Column("int", "layer", "creation layer of the sink"),
    "layer": Column("int", "layer", "layer of the MLP, up to the creation layer"),
    "role": Column("str", "", "writer, enabler, neither or undecided"),
    "why": Column("str", "", "test that decided the role"),
    "ended_zero": Column(
        "bool", "", "whether zeroing its output ends the sink; not used for the role"
    ),
    "ended_twin": Column(
        "float", "1", "1 if its mean output at token twins, patched in, ends the sink; else 0"
    ),
    "ended_each": Column(
        "float", "share of twins", "twins whose output, patched in alone, ends the sink"
    ),
    "created_in_twin": Column("float", "share of twins", "twins that become sinks with its output"),
    "rescued_alone": Column(
        "bool", "", "whether the sink survives with all earlier MLPs zeroed and this one kept"
    ),
    "lives_without": Column("bool", "", "whether it survives with this one zeroed too"),
    "write_alignment": Column("float", _COSINE, "cosine of its output with the primary"),
    "write_null": Column("float", _COSINE, "99th percentile of that cosine for random directions"),
    "n_donors": Column(
        "int",
        "tokens",
        "number of token twins tested; 0 if neither the text nor a free one has any: no role is "
        "given",
    ),
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
    rows = [(f"`{key}`", *one) for key, one in TABLES[name].items()]
    return markdown_table(["column", "type", "unit", "meaning"], rows)


def check_columns(name: str, frame: pd.DataFrame, model: str) -> pd.DataFrame:
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
