"""Texts -> token ids, with a record of what was fed in."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.errors import TextError
from secondary_sinks.texts.read import Text

FEEDS = ("auto", "chat", "raw")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenizedText:
    """Token ids of a text, and how they came about."""

    text_id: str
    tokens: Int[Tensor, "pos"]
    feed: str
    """chat (through the chat template) or raw."""
    fed: str
    """The exact string that was tokenized, template included."""


def tokenize(text: Text, tokenizer: Any, feed: str = "auto") -> TokenizedText:
    """Token ids of a text as the model sees them; nothing is truncated.

    `feed` is "chat" (the model's chat template; a plain text becomes one user message), "raw"
    (no template; the contents as they are, with the special tokens that the tokenizer itself
    adds) or "auto": chat for conversations where the model has a template, else raw.
    Raises `TextError` without a tokenizer or template, or for fewer than two tokens.
    """
    check_feed(feed)
    if tokenizer is None:
        raise TextError(
            "the model has no tokenizer, so it can't be fed text; put the model's own tokenizer "
            "files into its folder, or in Python use token ids"
        )
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if feed == "chat" and not has_template:
        raise TextError("the model has no chat template; use --feed raw")
    as_chat = feed == "chat" or (feed == "auto" and has_template and bool(text.messages))
    fed, ids = (_chat if as_chat else _raw)(text, tokenizer)
    if len(ids) < 2:
        raise TextError(f"text {text.text_id!r} has {len(ids)} token(s); expected at least 2")
    return TokenizedText(
        text_id=text.text_id,
        tokens=torch.tensor(ids, dtype=torch.long),
        feed="chat" if as_chat else "raw",
        fed=fed,
    )


def check_feed(feed: str) -> None:
    """Raise `TextError` for a feed that there isn't."""
    if feed not in FEEDS:
        raise TextError(f"unknown feed {feed!r}; expected one of {', '.join(FEEDS)}")


def _chat(text: Text, tokenizer: Any) -> tuple[str, list[int]]:
    messages = list(text.messages) or [{"role": "user", "content": text.raw}]
    try:
        fed = tokenizer.apply_chat_template(messages, tokenize=False)
    except Exception as error:  # templates raise what they like, for roles they don't accept
        raise TextError(
            f"text {text.text_id!r} does not fit the chat template ({error}); use --feed raw"
        ) from error
    # The template writes its special tokens itself.
    return fed, list(tokenizer(fed, add_special_tokens=False)["input_ids"])


def _raw(text: Text, tokenizer: Any) -> tuple[str, list[int]]:
    return text.raw, list(tokenizer(text.raw)["input_ids"])
