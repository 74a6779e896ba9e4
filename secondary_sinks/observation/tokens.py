"""Token ids, checked before anything is computed, and their strings."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeGuard

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.display import count
from secondary_sinks.errors import TextError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.models.original.tokenizer import check_ids
from secondary_sinks.texts import Text, TokenizedText, tokenize
from secondary_sinks.texts.records import LARGEST_ID, parse_record
from secondary_sinks.texts.text import Message

SPACE = "\u2581"
"""How SentencePiece writes a space."""
BYTE = re.compile("<0x[0-9A-F]{2}>")
REPLACEMENT = "\ufffd"
"""How bytes that do not make a whole character are decoded."""

INTEGERS = (
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
)

GivenText = str | Text | TokenizedText | Tensor | Sequence[int] | Sequence[Message]
"""One text: a string, a text of `read_texts`, token ids, or the messages of a conversation."""


def tokenize_given(
    model: HookedModel, text: GivenText, text_id: str | None = None
) -> TokenizedText:
    """A text as token ids, with the string that was fed if it is known.

    A string is fed raw, and a conversation through the model's chat template. Without a `text_id`,
    a text of `read_texts` keeps its own, and any other is called "text". Raises `TextError` for
    anything that is no text, and as `tokenize`.
    """
    name = text.text_id if isinstance(text, Text | TokenizedText) else "text"
    name = name if text_id is None else check_text_id(text_id)
    if isinstance(text, str):
        return tokenize(Text(text_id=name, plain=text), model.tokenizer, "raw")
    if is_conversation(text):
        text = parse_record({"messages": list(text)}, name, f"text {name!r}")
    if isinstance(text, Text):
        return tokenize(replace(text, text_id=name), model.tokenizer)
    given: Any = text.tokens if isinstance(text, TokenizedText) else text
    ids = token_ids(given, model.cfg.d_vocab, model.tokenizer, f"text {name!r}")
    if isinstance(text, TokenizedText):
        return replace(text, tokens=ids, text_id=name)
    return TokenizedText(text_id=name, tokens=ids, feed="ids", fed="")


def is_conversation(text: Any) -> TypeGuard[Sequence[Message]]:
    """Whether this is a list of messages, which are dicts."""
    return isinstance(text, list | tuple) and bool(text) and isinstance(text[0], dict)


def token_ids(
    tokens: Tensor | Sequence[int] | str,
    d_vocab: int | None = None,
    tokenizer: Any = None,
    text: str = "the text",
) -> Int[Tensor, "pos"]:
    """Token ids `[pos]` on the CPU, checked before any forward pass.

    `tokenizer` and `text` are used in error messages. Raises `TextError` for anything but two or
    more ids within the vocabulary.
    """
    if isinstance(tokens, str):
        raise TextError("expected token ids, got a string", "use model.to_tokens(text)")
    try:
        ids = torch.as_tensor(tokens).detach().cpu()
    except (RuntimeError, TypeError, ValueError) as error:
        raise TextError(
            f"expected a text, got {tokens!r:.60}",
            "give a string, token ids, a text of read_texts, or a list of messages",
        ) from error
    if ids.ndim == 2 and ids.shape[0] == 1:
        ids = ids[0]
    if not are_ids(tokens, ids):
        raise TextError(
            f"expected token ids [pos] or [1, pos], got {_kind(tokens, ids)} {tuple(ids.shape)}",
            "give whole numbers of one text; give several texts as a list, each without padding",
        )
    ids = ids.long()
    if len(ids) < 2:
        raise TextError(f"the text has {count(len(ids), 'token')}", "expected at least 2")
    check_ids(ids.tolist(), d_vocab, tokenizer, text)
    if d_vocab is None and int(ids.max()) > LARGEST_ID:
        raise TextError(
            f"{text} has the token id {int(ids.max())}", f"expected ids of at most {LARGEST_ID}"
        )
    return ids


def are_ids(given: Any, ids: Tensor) -> bool:
    """One row of integers; no mask, no truth value among them, and no sparse tensor."""
    if ids.ndim != 1 or ids.layout != torch.strided or _holds_bool(given):
        return False
    return ids.dtype in INTEGERS or not len(ids)


def _holds_bool(given: Any) -> bool:
    return isinstance(given, list | tuple) and any(isinstance(one, bool) for one in given)


def _kind(given: Any, ids: Tensor) -> str:
    """What was given instead of ids, for error messages."""
    if _holds_bool(given) or ids.dtype == torch.bool:
        return "True and False (a mask?),"
    return f"{ids.dtype}" + ("" if ids.layout == torch.strided else f" ({ids.layout})")


def check_text_id(text_id: Any) -> str:
    """The name of a text. Raises `TextError` for anything but a string that is not empty."""
    if not isinstance(text_id, str) or not text_id:
        raise TextError(f"text_id is {text_id!r:.60}", "expected a name, or leave it out")
    return text_id


def token_strings(ids: Int[Tensor, "pos"], tokenizer: Any = None) -> tuple[str, ...]:
    """The string of each token; its id in brackets without a tokenizer."""
    if tokenizer is None:
        return tuple(f"[{token}]" for token in ids.tolist())
    words = {token: _string_of(token, tokenizer) for token in set(ids.tolist())}
    return tuple(words[token] for token in ids.tolist())


def _string_of(token: int, tokenizer: Any) -> str:
    """The decoded string of a token, or its piece of the vocabulary if decoding loses information.

    Decoded alone, a SentencePiece token loses its space, a byte token looks like the character, and
    parts of a character all look the same.
    """
    piece, decoded = str(tokenizer.convert_ids_to_tokens(token)), tokenizer.decode([token])
    if SPACE in piece:
        return piece.replace(SPACE, " ")
    return piece if BYTE.fullmatch(piece) or REPLACEMENT in decoded or not decoded else decoded
