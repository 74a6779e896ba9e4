"""`run.json` as plain data: JSON has no NaN, and may write 1.0 as 1."""

import math
from typing import Any

EXACT = 2**53
"""A float tells whole numbers below this one apart."""
NUMBERS = (
    *("value", "low", "high", "lost", "sinks_lost", "controls_lost", "ordinary_lost"),
    *("removed", "removed_low", "removed_high", "shortened", "prolonged"),
)
"""Fields of a verdict or layer effect that may be NaN, which JSON cannot say."""
TOLD = ("verdicts", "writers", "layer_effects", "later", "later_effects")
"""Lists of verdicts and of layer effects."""


def without_nan(value: Any) -> Any:
    """The same plain data with None in the place of NaN."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def with_nan(record: dict[str, Any]) -> dict[str, Any]:
    """A record as it was before `without_nan`: numbers of its verdicts and effects are floats."""
    told = [record, *_objects(record.get("answers")), *_objects(record.get("models"))]
    lists = [one.get(name) for one in told for name in TOLD]
    for row in (row for one in lists for row in _objects(one)):
        row |= {name: _number(row[name]) for name in NUMBERS if name in row}
    return record


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; none of anything else."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: Any) -> Any:
    """A number as it was before JSON, which has no NaN and may write 1.0 as 1; others as found."""
    if value is None:
        return math.nan
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and abs(value) < EXACT else value
