"""What a folder is about: texts as fed, weights, code. Compared before anything is reused.

A chat template may write the date, so that the same text becomes other ids tomorrow. What was fed
first is what a folder is about: its ids are fed again, and that is said.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from secondary_sinks.runs.folder import RunFolder
from secondary_sinks.runs.hashes import DECIDING, hash_tokens, versions_of_code
from secondary_sinks.runs.schema import TEXT, whole_record
from secondary_sinks.texts import Text, TokenizedText, tokenize
from secondary_sinks.texts.retokenize import SAME_TEXT_FIELDS, retokenize

WEIGHTS, TEXTS, CODE = "weights", "texts as fed", "code"
NAMED = {"weights_sha256": "weights", "config_sha256": "settings of the model", "class": "class"}
OPTIONS = ("device", "dtype", "seed", "edit", "thresholds", "asked")
"""Further inputs of a run, as `describe` names them."""
COMPARED = {"model?": dict, "texts?": [TEXT], "versions?": dict, "versions_of_code?": dict}
"""Of a record, with types as in `schema`."""
SHOWN, DIGITS = 3, 12


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """In words, with both values: where two records of `describe` are not about the same."""
    options = (
        changed(name, old.get(name), new.get(name))
        for name in OPTIONS
        if old.get(name) != new.get(name)
    )
    return [*input_differences(old, new), *options]


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


def feed_again(
    folder: RunFolder, texts: Sequence[Text], tokenizer: Any, feed: str, say: Callable[[str], None]
) -> list[TokenizedText]:
    """Texts as the finished run of a folder fed them, where it fed the same; others as today.

    What is fed again, and would be something else today, is said. Raises `TextError` as `tokenize`
    does, and `RunFolderError` where the run's own ids cannot be read.
    """
    now = [tokenize(text, tokenizer, feed) for text in texts]
    before = {text["text_id"]: text for text in _told(folder).get("texts", ())}
    for place, fed in enumerate(now):
        told = before.get(fed.text_id)
        if told is not None and _is_fed_otherwise(fed, told):
            stored = told | {"token_ids": folder.token_ids(told)}
            now[place], _ = retokenize(texts[place], tokenizer, feed, stored)
            say(fed_first(fed.text_id))
    return now


def _is_fed_otherwise(fed: TokenizedText, told: Mapping[str, Any]) -> bool:
    """Whether the same text, through the same tokenizer and template, gives other ids."""
    same = all(told.get(name) == getattr(fed, name) for name in SAME_TEXT_FIELDS)
    other = told.get("tokens_sha256") != hash_tokens(fed.tokens.tolist())
    return same and other and bool(fed.text_sha256)


def fed_first(text_id: str) -> str:
    """What is said of a text that is fed as before."""
    return (
        f"text {text_id!r} is fed as it was first: its chat template would write something else "
        "today (a date?); use another --out to feed it anew"
    )


def refuse_other(folder: RunFolder, record: Mapping[str, Any], *, force: bool) -> None:
    """Raise `RunFolderError` where the folder holds anything else than a run with these inputs."""
    told = {} if force else _told(folder)
    known = {"model", "texts"} <= told.keys()  # not those of a sweep of several models
    folder.check(force=force, differs=in_words(differences(told, record)) if known else "")


def _told(folder: RunFolder) -> dict[str, Any]:
    """The record of a folder's run; empty without one. Raises `RunFolderError` for damage."""
    return whole_record(folder, COMPARED) if folder.has_record() else {}


def _tokens(text: Mapping[str, Any]) -> str:
    sha256 = str(text.get("tokens_sha256"))[:DIGITS]
    return f"{text.get('n_tokens')} tokens ({text.get('feed')}, sha256 {sha256})"


def _short(value: Any) -> str:
    if value is None:
        return "not there"
    words = str(value)
    is_hash = len(words) == 64 and set(words) <= set("0123456789abcdef")
    return words[:DIGITS] if is_hash else words if len(words) <= 80 else f"{words[:77]}..."
