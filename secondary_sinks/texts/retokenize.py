"""What was fed once, kept as plain data, and fed again: a template may write today's date."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from secondary_sinks.texts.text import Text
from secondary_sinks.texts.tokenize import TokenizedText, tokenize

SAME_TEXT_FIELDS = ("text_id", "feed", "text_sha256", "tokenizer_sha256", "template_sha256")
"""What must be the same for ids to be those of the same text, fed in the same way."""


def to_record(fed: TokenizedText) -> dict[str, Any]:
    """A text as it was fed, in plain data that `retokenize` takes."""
    named = {name: getattr(fed, name) for name in SAME_TEXT_FIELDS}
    return named | {"fed": fed.fed, "token_ids": fed.tokens.tolist()}


def retokenize(
    text: Text, tokenizer: Any, feed: str, before: Mapping[str, Any] | None
) -> tuple[TokenizedText, bool]:
    """Token ids of a text: those it was fed as `before`, where it is the same text.

    The same is: the same id, content, feed, tokenizer and chat template. The second value says
    whether other ids would have been fed without `before`, as where a template writes the date.
    Raises `TextError` as `tokenize` does.
    """
    now = tokenize(text, tokenizer, feed)
    if before is None or not now.text_sha256:
        return now, False
    same = all(before.get(name) == getattr(now, name) for name in SAME_TEXT_FIELDS)
    if not same or before["token_ids"] == now.tokens.tolist():
        return now, False
    ids = torch.tensor(before["token_ids"], dtype=torch.long)
    return replace(now, tokens=ids, fed=str(before["fed"])), True
