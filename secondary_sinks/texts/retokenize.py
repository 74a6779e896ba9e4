"""Use the token ids of an earlier run again, because a chat template may write today's date."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from secondary_sinks.texts.text import Text
from secondary_sinks.texts.tokenize import TokenizedText, tokenize

SAME_TEXT_FIELDS = ("text_id", "feed", "text_sha256", "tokenizer_sha256", "template_sha256")
"""Fields that must be equal for a text to be the same as in an earlier run, fed the same way."""


def to_record(fed: TokenizedText) -> dict[str, Any]:
    """A tokenized text as plain data, for `retokenize`."""
    named = {name: getattr(fed, name) for name in SAME_TEXT_FIELDS}
    return named | {"fed": fed.fed, "token_ids": fed.tokens.tolist()}


def retokenize(
    text: Text, tokenizer: Any, feed: str, before: Mapping[str, Any] | None
) -> tuple[TokenizedText, bool]:
    """Token ids of a text, taken from an earlier run if it is the same text there.

    `before` is `to_record` of the earlier run. It is the same text if id, content, feed, tokenizer
    and chat template are equal. The second value says whether the earlier ids differ from those of
    today, for example because the template writes the date. Raises `TextError` as `tokenize` does.
    """
    now = tokenize(text, tokenizer, feed)
    if before is None or not now.text_sha256:
        return now, False
    same = all(before.get(name) == getattr(now, name) for name in SAME_TEXT_FIELDS)
    if not same or before["token_ids"] == now.tokens.tolist():
        return now, False
    ids = torch.tensor(before["token_ids"], dtype=torch.long)
    return replace(now, tokens=ids, fed=str(before["fed"])), True
