"""Text -> token ids, with a record of the exact string that was fed."""

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Int
from torch import Tensor

from secondary_sinks.display import count
from secondary_sinks.errors import TextError, reason
from secondary_sinks.files import sha256_of_json
from secondary_sinks.texts.chat_template import apply_chat_template, format_losses
from secondary_sinks.texts.feeds import Feed, parse_feed
from secondary_sinks.texts.text import Text, extras_of

_KNOWN: WeakKeyDictionary[Any, tuple[int, str]] = WeakKeyDictionary()


def tokenizer_sha256(tokenizer: Any) -> str:
    """SHA-256 of the vocabulary with its ids, added tokens included."""
    size, known = _KNOWN.get(tokenizer, (-1, ""))
    if size != len(tokenizer):
        known = sha256_of_json(sorted(tokenizer.get_vocab().items()))
        _KNOWN[tokenizer] = (len(tokenizer), known)
    return known


def template_sha256(tokenizer: Any) -> str:
    """SHA-256 of the chat template, or of all templates if a tokenizer has several."""
    return sha256_of_json(tokenizer.chat_template)


IDS = "ids"
"""Name of the feed if the ids stored with a text were used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class TokenizedText:
    """Token ids of a text, and how they were made."""

    text_id: str
    tokens: Int[Tensor, "pos"]
    feed: str
    """chat (through the chat template) or raw, with options; ids if the text's stored ids were
    used."""
    fed: str
    """The exact string behind the ids, with the template's text and all special tokens."""
    text_sha256: str = ""
    """SHA-256 of the text's content; empty if only ids were given."""
    tokenizer_sha256: str = ""
    template_sha256: str = ""
    """SHA-256 of the chat template; empty if none was used."""

    def __post_init__(self) -> None:
        """Raises `TextError` for anything but a list of token ids as a tensor."""
        ids = self.tokens
        whole = isinstance(ids, Tensor) and ids.ndim == 1 and not ids.is_floating_point()
        if not whole or ids.dtype == torch.bool:
            raise TextError(
                f"tokens of {self.text_id!r:.60} are {ids!r:.60}", "expected a tensor [pos] of ids"
            )

    def __repr__(self) -> str:
        """The name, the number of tokens, and how they were made."""
        return f"TokenizedText({self.text_id!r}: {count(len(self.tokens), 'token')}, {self.feed})"

    @property
    def ids(self) -> tuple[int, ...]:
        """The token ids as plain numbers."""
        return tuple(self.tokens.tolist())


def tokenize(text: Text, tokenizer: Any, feed: str = "auto") -> TokenizedText:
    """Token ids of a text as the model sees them; nothing is left out.

    Only the first tokens are taken of a text that says so (`Text.first`).

    `feed` says how:

    * "chat": through the model's chat template; a plain text becomes one user message;
    * "raw": contents without a template, with the special tokens that the tokenizer adds;
    * "auto": the ids that `generate` stored with the text; else chat, for a conversation whose
      model has a template; else raw.

    "chat:NAME=VALUE" sets a variable of the template. Raises `TextError` without a tokenizer or
    template, for fewer than two tokens, for stored ids of another tokenizer, and if content of a
    message would be lost; "chat:lossy" and "raw:lossy" accept the loss.
    """
    requested = parse_feed(feed)
    _check_kinds(text, tokenizer)
    if tokenizer is None:
        raise TextError(
            "the model has no tokenizer, so it can't be fed text",
            "put the model's own tokenizer files into its folder, or in Python use token ids",
        )
    has_template = getattr(tokenizer, "chat_template", None) is not None
    if requested.kind == "chat" and not has_template:
        raise TextError("the model has no chat template", "use --feed raw")
    template = ""
    if requested.kind == "auto" and text.stored is not None:
        name, (fed, ids) = IDS, _from_stored_ids(text, tokenizer)
    elif requested.kind == "chat" or (requested.kind == "auto" and has_template and text.messages):
        name, (fed, ids) = requested.as_kind("chat"), _chat(text, tokenizer, requested)
        template = template_sha256(tokenizer)
    else:
        name, (fed, ids) = requested.as_kind("raw"), _raw(text, tokenizer, requested)
    if len(ids) < 2:
        raise TextError(
            f"text {text.text_id!r} has {count(len(ids), 'token')}", "expected at least 2"
        )
    if text.first is not None and len(ids) > text.first:
        ids = ids[: text.first]
        fed = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        name = f"{name}, first {text.first} tokens"
    return TokenizedText(
        text_id=text.text_id,
        tokens=torch.tensor(ids, dtype=torch.long),
        feed=name,
        fed=fed,
        text_sha256=text.sha256,
        tokenizer_sha256=tokenizer_sha256(tokenizer),
        template_sha256=template,
    )


def _check_kinds(text: Any, tokenizer: Any) -> None:
    """Raise `TextError` for a string in place of a text, or a model in place of its tokenizer."""
    if not isinstance(text, Text):
        raise TextError(
            f"expected a text of read_texts, got {type(text).__name__}",
            "observe(model, string) tokenizes a string itself; for token ids, model.to_tokens",
        )
    if tokenizer is not None and not hasattr(tokenizer, "get_vocab"):
        raise TextError(
            f"expected a tokenizer, got {type(tokenizer).__name__}",
            "use tokenize(text, model.tokenizer)",
        )


def encode(tokenizer: Any, string: str, **options: Any) -> list[int]:
    """Token ids of a string. Raises `TextError` where the tokenizer fails.

    A panic in the Rust code of a tokenizer is no `Exception`: an expression that takes too long,
    for one.
    """
    try:
        return list(tokenizer(string, **options)["input_ids"])
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise TextError(
            f"the tokenizer cannot read {string[:40]!r}...: {reason(error)}",
            "use the tokenizer files that the model was published with",
        ) from error


def _chat(text: Text, tokenizer: Any, requested: Feed) -> tuple[str, list[int]]:
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
        options=requested.options,
        lossy=requested.lossy,
        choices=choices,
    )
    # The template has already written the special tokens.
    return fed, encode(tokenizer, fed, add_special_tokens=False)


def _raw(text: Text, tokenizer: Any, requested: Feed) -> tuple[str, list[int]]:
    """The contents without roles, and the special tokens that the tokenizer adds."""
    extras = [
        f"{key!r} of message {number} ({message['role']})"
        for number, message in enumerate(text.messages, start=1)
        for key in extras_of(message)
    ]
    if extras and not requested.lossy:
        raise TextError(
            f"text {text.text_id!r}: --feed raw feeds contents only and leaves out "
            f"{format_losses(extras)}",
            "write it into the content, use --feed chat, or accept the loss with --feed raw:lossy",
        )
    return _with_special_tokens(text.raw, tokenizer)


def _with_special_tokens(raw: str, tokenizer: Any) -> tuple[str, list[int]]:
    """Tokenize a string; special tokens at its ends that it already has are not added again."""
    ids = encode(tokenizer, raw)
    plain = encode(tokenizer, raw, add_special_tokens=False)
    starts = range(len(ids) - len(plain) + 1)
    start = next((n for n in starts if ids[n : n + len(plain)] == plain), None)
    if start is None:
        return raw, ids
    before, after = ids[:start], ids[start + len(plain) :]
    before = [] if plain[: len(before)] == before else before
    after = [] if plain[len(plain) - len(after) :] == after else after
    names = ["".join(map(str, tokenizer.convert_ids_to_tokens(ids))) for ids in (before, after)]
    return names[0] + raw + names[1], [*before, *plain, *after]


def _from_stored_ids(text: Text, tokenizer: Any) -> tuple[str, list[int]]:
    assert text.stored is not None
    theirs, ours = text.stored.tokenizer_sha256, tokenizer_sha256(tokenizer)
    if theirs != ours:
        raise TextError(
            f"text {text.text_id!r} holds token ids of another tokenizer ({theirs[:12]}; that of "
            f"the model is {ours[:12]}); generate it with this model, or use --feed chat or --feed "
            "raw to tokenize its messages again"
        )
    ids = list(text.stored.ids)
    return tokenizer.decode(ids, clean_up_tokenization_spaces=False), ids


SAME_TEXT_FIELDS = ("text_id", "feed", "text_sha256", "tokenizer_sha256", "template_sha256")
"""Fields that must be equal for a text to be the same as in an earlier run, fed the same way."""


def as_fed_first(now: TokenizedText, before: TokenizedText | None) -> TokenizedText:
    """The text as it was fed before, if it is the same text; else as it is `now`.

    It is the same text if id, content, feed, tokenizer and chat template are equal. The ids may
    differ nevertheless, for example because the template writes the date.
    """
    if before is None or not now.text_sha256:
        return now
    same = all(getattr(before, name) == getattr(now, name) for name in SAME_TEXT_FIELDS)
    return before if same else now
