"""The least output of the forming MLPs that makes a sink, as a factor and as a norm."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from secondary_sinks.questions.forming import Forming, Place
from secondary_sinks.statistics import mean_over_texts

BY = {"sink": "is_sink", "attention": "draws"}
"""When a factor is enough: the token is a sink, or it draws half of what the clean sink draws."""
COLUMNS = ("by", "unit", "value", "low", "high", "n_sinks", "n_texts", "n_below", "n_never")


def thresholds(doses: pd.DataFrame, forming: Mapping[Place, Forming]) -> pd.DataFrame:
    """The least dose that makes a sink: geometric mean over texts, with its interval.

    Column `by`: "sink" uses the criterion, which includes a norm itself; "attention" asks for the
    least dose that draws half of what the clean sink draws.

    For each sink, the threshold lies between the last factor that is too small and the first that
    is enough. The value is their geometric mean; the interval goes from the lower end of the
    interval of the former to the upper end of that of the latter, so it includes the step of the
    grid. Unit "factor" scales the output of the forming MLPs; unit "norm" is the length that they
    write together along the primary's direction. Sinks for which the smallest factor is enough
    (`n_below`), or no factor is (`n_never`), are not counted; in norm, neither are sinks whose
    forming MLPs write against the direction.
    """
    sinks = doses[doses["role"] == "sink"]
    rows = [row for by, column in BY.items() for row in _rows(by, sinks, column, forming)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(
    by: str, sinks: pd.DataFrame, column: str, forming: Mapping[Place, Forming]
) -> list[dict[str, object]]:
    """Two rows: one in factors, one in norm."""
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
    """The largest factor before the first that is enough (0 if none is smaller), and that first."""
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
