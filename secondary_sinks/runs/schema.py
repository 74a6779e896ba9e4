"""Check the files of a run before use: required fields, columns and types.

A damaged or foreign `run.json`, or a table with other columns, raises one error here that names the
field, instead of an obscure error in the code that reads the field.
"""

import math
from collections.abc import Iterator
from dataclasses import MISSING, fields
from itertools import chain
from typing import Any, get_args

import pandas as pd
from pandas.api import types as kinds

from secondary_sinks.detection import Phenomenon
from secondary_sinks.errors import RunFolderError
from secondary_sinks.runs import columns
from secondary_sinks.runs.folder import ANSWERS, RECORD, RunFolder
from secondary_sinks.runs.opened import by_model
from secondary_sinks.runs.plain import EXACT
from secondary_sinks.types import LayerEffect, Verdict

NUMBER = (int, float)
DTYPES = ("float32", "bfloat16", "float16")
MOST_LAYERS = 1_000
"""Largest number of layers or heads in a report, whose maps have one cell per pair."""
KINDS = {"int": int, "float": float, "bool": bool, "str": str}
TEXT = {"text_id": str, "feed": str, "n_tokens": int, "tokens_sha256?": str}
NEAR = {"text_id": str, "pos": int, "token": str, "kind": str}
MODEL = {
    **dict.fromkeys(("name", "architecture", "class?", "weights_sha256"), str),
    **dict.fromkeys(("n_layers", "d_model", "n_heads"), int),
}
OUTCOMES = ("supported", "contradicted", "inconclusive")
DRAWN = (
    *("layer", "pos", "token_id", "token", "norm_ratio", "alignment_centred"),
    *("mass", "mass_excess", "mass_local"),
)
"""Columns of a trace that reports draw."""
COLUMNS: dict[str, dict[str, Any]] = {
    name: {
        column: KINDS[kind]
        for column, (kind, _, _) in table.items()
        if column not in columns.ADDED and (name != "trace" or column in ("text_id", *DRAWN))
    }
    for name, table in columns.TABLES.items()
}


def _row_of(kind: type) -> dict[str, Any]:
    """Fields of a dataclass as they appear in plain data; a float may be written as a whole number.

    A field with a default may be missing: files written before the field existed lack it.
    """
    return {
        item.name + ("?" if item.default is not MISSING else ""): (
            NUMBER if item.type is float else get_args(item.type) or item.type
        )
        for item in fields(kind)
    }


ANSWER = {
    **{"question": str, "tables": [str], "left_out": dict, "n_censored": int},
    "verdicts": [_row_of(Verdict)],
}
LISTS = ("created_at", "primary_at", "n_labelled", "label_lifetimes", "positions?", "lengths?")
SIZES = {"n_labelled": (3,), "label_lifetimes": (2,), "positions": (0, 3), "lengths": (2,)}
"""How many numbers some lists of a phenomenon hold."""
PHENOMENON = _row_of(Phenomenon) | {name: [int] for name in LISTS}
REPORTED: dict[str, Any] = {
    "key": str,
    "commit": (str, type(None)),
    "seed": int,
    "model": MODEL,
    "device": str,
    "dtype": str,
    "edit": (str, type(None)),
    "thresholds": dict,
    "texts": [TEXT],
    "versions": dict,
    "primaries?": dict,
    "near_sinks?": [NEAR],
    "phenomenon?": PHENOMENON,
    "layer_effects?": [_row_of(LayerEffect)],
    "verdicts": [_row_of(Verdict)],
    "writers?": [_row_of(Verdict)],
    "later?": [_row_of(Verdict)],
    "later_effects?": [_row_of(LayerEffect)],
    "damage?": [{"role": str, "layer": int, "edit": str, "kl_at_token": NUMBER, "n_sinks": int}],
    "timings_s?": dict,
    "answers?": [ANSWER],
}
"""Fields that a report and the command line read from a run. A value is a type or several
types; {field: type} for an object, where a field with a question mark may be missing; [type]
for a list."""
COUNTED: dict[str, Any] = {"texts": [{"n_tokens": int, "tokens_sha256": str}]}
"""Fields that the levels need from a run."""


def whole_record(folder: RunFolder, needed: dict[str, Any]) -> dict[str, Any]:
    """Check that `run.json` has all required fields with the right types, and return it.

    Raises `RunFolderError` that names the first wrong field.
    """
    record = folder.record()
    _refuse(folder, _wrong(record, needed, ""))
    return record


def whole_records(folder: RunFolder) -> list[dict[str, Any]]:
    """The record of each model with every field that reports use; raises like `whole_record`."""
    record = folder.record()
    several = "models" in record and "model" not in record
    if several:
        _refuse(folder, _wrong(record, {"models": [{"label": str}]}, ""))
    records = by_model(record) if several else [record]
    _refuse(folder, "" if records else "models is []; expected at least one")
    for one in records:
        _refuse(folder, _wrong(one, REPORTED, "") or _wrong_values(one))
    return records


def _refuse(folder: RunFolder, wrong: str) -> None:
    if wrong:
        raise RunFolderError(
            f"{str(folder.path / RECORD)!r} is not a complete record: {wrong}",
            "run again with --force",
        )


def whole_table(folder: RunFolder, name: str) -> pd.DataFrame:
    """Check that a table has all columns with their types. Raises `RunFolderError` naming one."""
    frame = folder.table(name)
    for column, kind in COLUMNS[name].items():
        if column not in frame:
            what = f"has no column {column!r}"
        elif not _is_column(frame[column], kind):
            found = "missing values" if frame[column].isna().any() else frame[column].dtype
            what = f"has {found} in column {column!r}; expected {_named(kind)}"
        else:
            continue
        path = str(folder.path / f"{name}.parquet")
        raise RunFolderError(f"{path!r} {what}", "run again with --force")
    return frame


def mismatch(value: Any, expected: Any) -> str:
    """First field of plain data that differs from what is expected, in words; empty if all match.

    >>> mismatch({"n": "many"}, {"n": int, "of?": str})
    "n is 'many'; expected int"
    """
    return _wrong(value, expected, "")


def _wrong(value: Any, expected: Any, where: str) -> str:
    """What is wrong with plain data, in words; empty if it is valid."""
    if isinstance(expected, list):
        if not isinstance(value, list):
            return _mismatch(where, value, "a list")
        found = (_wrong(one, expected[0], f"{where}[{n}]") for n, one in enumerate(value))
        return next(filter(None, found), "")
    if isinstance(expected, dict):
        return _wrong_object(value, expected, where)
    allowed = expected if isinstance(expected, tuple) else (expected,)
    as_bool = isinstance(value, bool) and bool not in allowed
    too_large = isinstance(value, int) and abs(value) >= EXACT
    fits = isinstance(value, allowed) and not as_bool and not too_large
    return "" if fits else _mismatch(where, value, expected)


def _wrong_object(value: Any, expected: dict[str, Any], where: str) -> str:
    if not isinstance(value, dict):
        return _mismatch(where, value, "an object")
    for name, kind in expected.items():
        plain = name.rstrip("?")
        if plain not in value and plain == name:
            return f"{where.lstrip('.') or 'it'} has no {plain!r}"
        wrong = _wrong(value[plain], kind, f"{where}.{plain}") if plain in value else ""
        if wrong:
            return wrong
    return ""


def _wrong_values(record: dict[str, Any]) -> str:
    """The first value of the right type that cannot be used, in words; empty if all can be."""
    parts = (_wrong_settings, _wrong_texts, _wrong_numbers, _wrong_answers)
    return next((wrong for part in parts for wrong in part(record)), "")


def _wrong_settings(record: dict[str, Any]) -> Iterator[str]:
    n_layers, dtype = record["model"]["n_layers"], record.get("dtype", "float32")
    if not 0 < n_layers <= MOST_LAYERS:
        yield _mismatch(".model.n_layers", n_layers, f"1 to {MOST_LAYERS:,}")
    if dtype not in DTYPES:
        yield _mismatch(".dtype", dtype, f"one of {', '.join(DTYPES)}")


def _wrong_texts(record: dict[str, Any]) -> Iterator[str]:
    seen: set[str] = set()
    for number, text in enumerate(record["texts"]):
        where = f".texts[{number}]"
        if text["n_tokens"] < 1:
            yield _mismatch(f"{where}.n_tokens", text["n_tokens"], "at least 1")
        if text["text_id"] in seen:
            yield _mismatch(f"{where}.text_id", text["text_id"], "an id that no text has before")
        seen.add(text["text_id"])


def _wrong_numbers(record: dict[str, Any]) -> Iterator[str]:
    for name, sizes in SIZES.items():
        found = record.get("phenomenon", {}).get(name)
        if found is not None and len(found) not in sizes:
            yield _mismatch(f".phenomenon.{name}", found, f"{sizes[-1]} numbers")
    for name in ("thresholds", "timings_s", "primaries"):
        for key, value in record.get(name, {}).items():
            if not isinstance(value, NUMBER) or not math.isfinite(value):
                yield _mismatch(f".{name}.{key}", value, "a number")


def _wrong_answers(record: dict[str, Any]) -> Iterator[str]:
    answers = record.get("answers", ())
    for n, answer in enumerate(answers):
        known = set(ANSWERS.get(answer["question"], ()))
        if not {"cells", "effects"} <= set(answer["tables"]) <= known:
            what = f"{answer['question']!r:.40} with tables {answer['tables']!r:.60}"
            yield f"answers[{n}] is {what}; expected a question of this version, with its tables"
    lists = [part.get("verdicts", ()) for part in (record, *answers)]
    lists += [record.get("writers", ()), record.get("later", ())]
    for n, verdict in enumerate(chain.from_iterable(lists)):
        if verdict["outcome"] not in OUTCOMES:
            yield _mismatch(f".verdicts[{n}].outcome", verdict["outcome"], ", ".join(OUTCOMES))


def _mismatch(where: str, value: Any, expected: Any) -> str:
    words = expected if isinstance(expected, str) else _named(expected)
    return f"{where.lstrip('.') or 'it'} is {value!r:.60}; expected {words}"


def _named(kind: Any) -> str:
    allowed = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join("null" if one is type(None) else one.__name__ for one in allowed)


def _is_column(column: pd.Series, kind: Any) -> bool:
    if kind is str:
        words = kinds.infer_dtype(column, skipna=False) if len(column) else "string"
        return words == "string" and not column.isna().any()
    if kind is bool:
        return kinds.is_bool_dtype(column)
    if kind is int:
        return kinds.is_integer_dtype(column)
    return kinds.is_float_dtype(column) or kinds.is_integer_dtype(column)
