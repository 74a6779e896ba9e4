"""`run.json` as plain data: JSON has no NaN, and may write 1.0 as 1."""

import math
from typing import Any

EXACT = 2**53
"""Every whole number below this one is exact as a float."""
NUMBERS = (
    *("value", "low", "high", "lost", "sinks_lost", "sinks_low"),
    *("controls_lost", "ordinary_lost"),
    *("removed", "removed_low", "removed_high", "shortened", "prolonged"),
    *("layers_after", "rate", "rate_by_paper"),
)
"""Fields of a verdict, layer effect or phenomenon that may be NaN, which JSON lacks."""
VERDICTS = ("verdicts", "writers", "layer_effects", "later", "later_effects")
"""Fields that hold lists of verdicts or of layer effects."""


def without_nan(value: Any) -> Any:
    """The same plain data with NaN replaced by None."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def with_nan(record: dict[str, Any]) -> dict[str, Any]:
    """Undo `without_nan`: the numbers of verdicts and effects are floats again."""
    parts = [record, *_objects(record.get("answers")), *_objects(record.get("models"))]
    lists = [part.get(name) for part in parts for name in VERDICTS]
    lists.append([part.get("phenomenon") for part in parts])
    for row in (row for one in lists for row in _objects(one)):
        row |= {name: _number(row[name]) for name in NUMBERS if name in row}
    return record


def _objects(value: Any) -> list[dict[str, Any]]:
    """The objects in a list; empty for anything but a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _number(value: Any) -> Any:
    """Undo JSON for a number: None becomes NaN, 1 becomes 1.0; other values stay unchanged."""
    if value is None:
        return math.nan
    whole = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if whole and abs(value) < EXACT else value
