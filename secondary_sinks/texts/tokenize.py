"""Texts -> token ids, with a record of what was fed in."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.errors import TextError
from secondary_sinks.texts.chat_template import apply_chat_template, format_losses
from secondary_sinks.texts.feeds import Feed, parse_feed
from secondary_sinks.texts.fingerprints import template_sha256, tokenizer_sha256
from secondary_sinks.texts.text import Text, extras_of

IDS = "ids"
"""The feed of a text whose stored ids were used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenizedText:
    """Token ids of a text, and how they came about."""

    text_id: str
    tokens: Int[Tensor, "pos"]
    feed: str
    """chat (through the chat template) or raw, with options; ids where they came with the text."""
    fed: str
    """The exact string that the ids stand for, with the template and all special tokens."""
    text_sha256: str = ""
    """Of the content of the text; empty where only ids were given."""
    tokenizer_sha256: str = ""
    template_sha256: str = ""
    """Of the chat template; empty where none was used."""


def tokenize(text: Text, tokenizer: Any, feed: str = "auto") -> TokenizedText:
    """Token ids of a text as the model sees them; nothing is truncated or left out.

    `feed` is "chat" (the model's chat template; a plain text becomes one user message), "raw"
    (no template; the contents as they are, with the special tokens that the tokenizer itself
    adds) or "auto": the ids that `generate` stored with a text, else chat for conversations where
    the model has a template, else raw. "chat:NAME=VALUE" gives the template a variable.

    Raises `TextError` without a tokenizer or template, for fewer than two tokens, for stored ids
    of another tokenizer, and where something that a message says would not be fed: "chat:lossy"
    and "raw:lossy" accept that.
    """
    asked = parse_feed(feed)
    if tokenizer is None:
        raise TextError(
            "the model has no tokenizer, so it can't be fed text; put the model's own tokenizer "
            "files into its folder, or in Python use token ids"
        )
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if asked.kind == "chat" and not has_template:
        raise TextError("the model has no chat template; use --feed raw")
    template = ""
    if asked.kind == "auto" and text.stored is not None:
        name, (fed, ids) = IDS, _stored(text, tokenizer)
    elif asked.kind == "chat" or (asked.kind == "auto" and has_template and text.messages):
        name, (fed, ids) = asked.as_kind("chat"), _chat(text, tokenizer, asked)
        template = template_sha256(tokenizer)
    else:
        name, (fed, ids) = asked.as_kind("raw"), _raw(text, tokenizer, asked)
    if len(ids) < 2:
        raise TextError(f"text {text.text_id!r} has {len(ids)} token(s); expected at least 2")
    return TokenizedText(
        text_id=text.text_id,
        tokens=torch.tensor(ids, dtype=torch.long),
        feed=name,
        fed=fed,
        text_sha256=text.sha256,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template,
    )


def _chat(text: Text, tokenizer: Any, asked: Feed) -> tuple[str, list[int]]:
    messages = list(text.messages) or [{"role": "user", "content": text.raw}]
    more = any(map(extras_of, text.messages))
    first = "write it into the content" if more else "use --feed raw (contents without roles)"
    choices = (
        f"; {first}, give the template an option that it has (--feed chat:NAME=VALUE), or accept "
        "the loss with --feed chat:lossy"
    )
    fed = apply_chat_template(
        text.text_id,
        messages,
        tokenizer,
        options=asked.options,
        lossy=asked.lossy,
        choices=choices,
    )
    # The template writes its special tokens itself.
    return fed, list(tokenizer(fed, add_special_tokens=False)["input_ids"])


def _raw(text: Text, tokenizer: Any, asked: Feed) -> tuple[str, list[int]]:
    """The text with the special tokens that the tokenizer adds, each only where it is not yet."""
    extras = [
        f"{key!r} of message {number} ({message['role']})"
        for number, message in enumerate(text.messages, start=1)
        for key in extras_of(message)
    ]
    if extras and not asked.lossy:
        raise TextError(
            f"text {text.text_id!r}: --feed raw feeds contents only and leaves out "
            f"{format_losses(extras)}; write it into the content, use --feed chat, or accept the "
            "loss with --feed raw:lossy"
        )
    return _with_special_tokens(text.raw, tokenizer)


def _with_special_tokens(raw: str, tokenizer: Any) -> tuple[str, list[int]]:
    """What the tokenizer makes of a string; special tokens that it holds already come once."""
    ids = list(tokenizer(raw)["input_ids"])
    plain = list(tokenizer(raw, add_special_tokens=False)["input_ids"])
    starts = range(len(ids) - len(plain) + 1)
    start = next((n for n in starts if ids[n : n + len(plain)] == plain), None)
    if start is None:
        return raw, ids
    before, after = ids[:start], ids[start + len(plain) :]
    before = [] if plain[: len(before)] == before else before
    after = [] if plain[len(plain) - len(after) :] == after else after
    names = ["".join(map(str, tokenizer.convert_ids_to_tokens(ids))) for ids in (before, after)]
    return names[0] + raw + names[1], [*before, *plain, *after]


def _stored(text: Text, tokenizer: Any) -> tuple[str, list[int]]:
    assert text.stored is not None
    theirs, ours = text.stored.tokenizer_sha256, tokenizer_sha256(tokenizer)
    if theirs != ours:
        raise TextError(
            f"text {text.text_id!r} holds token ids of another tokenizer ({theirs[:12]}; that of "
            f"the model is {ours[:12]}); generate it with this model, or say --feed chat or --feed "
            "raw to have its messages tokenized anew"
        )
    ids = list(text.stored.ids)
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False), ids
