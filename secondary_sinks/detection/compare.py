"""Two tables of sinks of the same texts, side by side."""

import math
from typing import TYPE_CHECKING, Any

from secondary_sinks.errors import DetectionError
from secondary_sinks.types import Sink, SinkTable

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("kind", "label", "l_start", "lifetime")


def compare(
    one: SinkTable, other: SinkTable, names: tuple[str, str] = ("one", "other")
) -> "pd.DataFrame":
    """One row per token that is a sink in either table, with what each table says about it.

    For example two criteria, or the authors' detections and ours; text_ids must be the same in
    both. `found` is "both" or one of the `names`. `kind`, `label`, `l_start` and `lifetime` come
    twice, with the names as endings ("none" or NaN where the token is not a sink in that table).
    `shared` is the number of layers at which both call it a sink; `overlap` is that number divided
    by the number of layers at which at least one does. Raises `DetectionError` if both tables have
    sinks but no text in common.
    """
    import pandas as pd

    left, right = ({(s.text_id, s.pos): s for s in table.sinks} for table in (one, other))
    if left and right and not {text for text, _ in left} & {text for text, _ in right}:
        raise DetectionError(
            "the two tables share no text_id", "give each text the same id in both"
        )
    rows = [_row(left.get(key), right.get(key), names) for key in sorted(left.keys() | right)]
    columns = ["text_id", "pos", "token_id", "found", "shared", "overlap"]
    columns += [f"{column}_{name}" for column in COLUMNS for name in names]
    return pd.DataFrame(rows, columns=columns)


def _row(one: Sink | None, other: Sink | None, names: tuple[str, str]) -> dict[str, Any]:
    sink = one or other
    assert sink is not None
    layers = [set(s.layers) if s else set() for s in (one, other)]
    row: dict[str, Any] = {
        **sink.fields("text_id", "pos", "token_id"),
        "found": "both" if one and other else names[0] if one else names[1],
        "shared": len(layers[0] & layers[1]),
        "overlap": len(layers[0] & layers[1]) / len(layers[0] | layers[1]),
    }
    for name, found in zip(names, (one, other), strict=True):
        row[f"kind_{name}"] = found.kind if found else "none"
        row[f"label_{name}"] = found.label if found else "none"
        row[f"l_start_{name}"] = float(found.l_start) if found else math.nan
        row[f"lifetime_{name}"] = float(found.lifetime) if found else math.nan
    return row
