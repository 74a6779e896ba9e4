"""The inputs of a run folder (fed texts, weights, code), compared before anything is reused.

A chat template may write the date, so the same text can give other token ids tomorrow. The folder
keeps the token ids that it was first given; they are fed again, and a warning says so.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secondary_sinks.runs.hashes import DECIDING, versions_of_code

WEIGHTS, TEXTS, CODE = "weights", "texts as fed", "code"
NAMED = {"weights_sha256": "weights", "config_sha256": "settings of the model", "class": "class"}
SHOWN, DIGITS = 3, 12


def input_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Differences in weights, texts and code between two records, in words, with both values."""
    weights, texts = in_weights(old["model"], new["model"]), in_texts(old["texts"], new["texts"])
    return [*weights, *texts, *in_code(old, new)]


def in_words(found: Sequence[str]) -> str:
    """The first few differences on one line; the rest is counted."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def in_weights(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Differences in weights and settings between two records of a model."""
    for name in DECIDING:
        if old.get(name) != new.get(name):
            yield describe_change(f"{WEIGHTS}: {NAMED[name]}", old.get(name), new.get(name))


def in_texts(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Differences between texts of two records (`text_id`, `n_tokens`, `tokens_sha256` each)."""
    before = {str(text["text_id"]): _tokens(text) for text in old}
    now = {str(text["text_id"]): _tokens(text) for text in new}
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            yield describe_change(f"{TEXTS}: {name!r}", before.get(name), now.get(name))
    if before == now and [*before] != [*now]:
        yield describe_change(f"{TEXTS}: order", ", ".join(before), ", ".join(now))


def in_code(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Differences in our source code and in package versions between two records."""
    for part in ("versions_of_code", "versions"):
        before, now = old.get(part) or {}, new.get(part) or {}
        if part not in new:
            continue
        for name in dict.fromkeys([*before, *now]):
            if before.get(name) != now.get(name):
                yield describe_change(f"{CODE}: {name}", before.get(name), now.get(name))


def of_code() -> dict[str, Any]:
    """Record of the installed code, in the form that `in_code` compares."""
    return {"versions_of_code": versions_of_code()}


def describe_change(name: str, old: Any, new: Any) -> str:
    """One difference in words.

    >>> describe_change("weights", "0123456789abcdef" * 4, None)
    'weights was 0123456789ab, is not there'
    """
    return f"{name} was {_short(old)}, is {_short(new)}"


def fed_first(text_id: str) -> str:
    """Message for a text whose stored token ids are fed again."""
    return (
        f"text {text_id!r} is fed with its stored token ids: its chat template gives other ones "
        "today (a date?); use another --out to apply the template again"
    )


def _tokens(text: Mapping[str, Any]) -> str:
    sha256 = str(text.get("tokens_sha256"))[:DIGITS]
    return f"{text.get('n_tokens')} tokens ({text.get('feed')}, sha256 {sha256})"


def _short(value: Any) -> str:
    if value is None:
        return "not there"
    words = str(value)
    is_hash = len(words) == 64 and set(words) <= set("0123456789abcdef")
    return words[:DIGITS] if is_hash else words if len(words) <= 80 else f"{words[:77]}..."
