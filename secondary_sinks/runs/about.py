"""What a folder is about: texts as fed, weights, code. Compared before anything is reused.

A chat template may write the date, so that the same text becomes other ids tomorrow. What was fed
first is what a folder is about: its ids are fed again, and that is said.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from secondary_sinks.runs.hashes import DECIDING, versions_of_code

WEIGHTS, TEXTS, CODE = "weights", "texts as fed", "code"
NAMED = {"weights_sha256": "weights", "config_sha256": "settings of the model", "class": "class"}
SHOWN, DIGITS = 3, 12


def input_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In words, with both values: differences of weights, texts and code of two records."""
    weights, texts = in_weights(old["model"], new["model"]), in_texts(old["texts"], new["texts"])
    return [*weights, *texts, *in_code(old, new)]


def in_words(found: Sequence[str]) -> str:
    """The first few differences, in one line."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(found[:SHOWN]) + more


def in_weights(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Differences of two records of a model."""
    for name in DECIDING:
        if old.get(name) != new.get(name):
            yield changed(f"{WEIGHTS}: {NAMED[name]}", old.get(name), new.get(name))


def in_texts(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Differences of the texts of two records, each with `text_id`, `n_tokens`, `tokens_sha256`."""
    before = {str(text["text_id"]): _tokens(text) for text in old}
    now = {str(text["text_id"]): _tokens(text) for text in new}
    for name in dict.fromkeys([*before, *now]):
        if before.get(name) != now.get(name):
            yield changed(f"{TEXTS}: {name!r}", before.get(name), now.get(name))
    if before == now and [*before] != [*now]:
        yield changed(f"{TEXTS}: order", ", ".join(before), ", ".join(now))


def in_code(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Differences of what computed: our source, and the versions of packages."""
    for part in ("versions_of_code", "versions"):
        before, now = old.get(part) or {}, new.get(part) or {}
        if part not in new:
            continue
        for name in dict.fromkeys([*before, *now]):
            if before.get(name) != now.get(name):
                yield changed(f"{CODE}: {name}", before.get(name), now.get(name))


def of_code() -> dict[str, Any]:
    """The code that computes here, as `in_code` takes it."""
    return {"versions_of_code": versions_of_code()}


def changed(name: str, old: Any, new: Any) -> str:
    """A difference in words.

    >>> changed("weights", "0123456789abcdef" * 4, None)
    'weights was 0123456789ab, is not there'
    """
    return f"{name} was {_short(old)}, is {_short(new)}"


def fed_first(text_id: str) -> str:
    """What is said of a text that is fed as before."""
    return (
        f"text {text_id!r} is fed as it was first: its chat template would write something else "
        "today (a date?); use another --out to feed it anew"
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
