"""How much of what forms a sink is enough? The threshold, in factors and in norm."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from secondary_sinks.questions.forming import Forming, Place
from secondary_sinks.statistics import mean_over_texts

BY = {"sink": "is_sink", "attention": "draws"}
"""What is asked of a dose: that the token is a sink, or that it draws half as much as the sink."""
COLUMNS = ("by", "unit", "value", "low", "high", "n_sinks", "n_texts", "n_below", "n_never")


def thresholds(doses: pd.DataFrame, forming: Mapping[Place, Forming]) -> pd.DataFrame:
    """The least dose that makes a sink: geometric mean over texts, with its interval.

    By the criterion (`by` sink), which asks for a norm itself, and by the attention alone: the
    least dose that draws half of what the sink draws.

    Between the last factor at which it is none and the first at which it is one: the value is
    their geometric mean, and the interval goes from the lower end of the former's to the upper
    end of the latter's, so the grid's coarseness is in it. In factors of what the forming MLPs
    write, and in norm: the length of what they write together along the primary's direction.
    Not counted are sinks that the smallest factor makes already (`n_below`), or no factor does
    (`n_never`); in norm, nor are those whose forming MLPs write against the direction.
    """
    sinks = doses[doses["role"] == "sink"]
    rows = [row for by, column in BY.items() for row in _rows(by, sinks, column, forming)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    by: str, sinks: pd.DataFrame, column: str, forming: Mapping[Place, Forming]
) -> list[dict[str, object]]:
    """A row in factors, and one in norm."""
    brackets = [
        (text_id, *_bracket(group, column), forming[str(text_id), int(str(pos))].written)
        for (text_id, pos), group in sinks.groupby(["text_id", "sink_pos"])
    ]
    table = pd.DataFrame(brackets, columns=["text_id", "last", "first", "norm"])
    table = table.astype({"last": float, "first": float, "norm": float})
    inside = table[(table["last"] > 0) & np.isfinite(table["first"])]
    counts = {
        "by": by,
        "n_below": int((table["last"] == 0).sum()),
        "n_never": int(np.isinf(table["first"]).sum()),
    }
    norm = inside["norm"].where(inside["norm"] > 0)
    return [_row("factor", inside, 1.0) | counts, _row("norm", inside, norm) | counts]


def _bracket(group: pd.DataFrame, column: str) -> tuple[float, float]:
    """The last factor below the first at which it is one (0 if none), and that first one."""
    ordered = group.sort_values("factor")
    alive = ordered[column].astype(bool).to_numpy()
    factors = ordered["factor"].to_numpy()
    if not alive.any():
        return float(factors[-1]), math.inf
    first = int(alive.argmax())
    return (float(factors[first - 1]) if first else 0.0), float(factors[first])


def _row(unit: str, inside: pd.DataFrame, scale: "float | pd.Series[float]") -> dict[str, object]:
    texts = inside["text_id"].tolist()
    last, first = (
        mean_over_texts(np.log(inside[name] * scale), texts) for name in ("last", "first")
    )
    return {
        "unit": unit,
        "value": math.exp((last.value + first.value) / 2),
        "low": math.exp(last.low),
        "high": math.exp(first.high),
        "n_sinks": last.n,
        "n_texts": last.n_texts,
    }
