"""The option `--feed`: how a text is turned into token ids."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from secondary_sinks import files
from secondary_sinks.errors import TextError
from secondary_sinks.types.lists import refuse_twice

FEEDS = ("auto", "chat", "raw")
LOSSY = "lossy"
"""The option that accepts that content is lost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """A parsed feed: `chat:lossy,enable_thinking=false` is chat, lossy, with one option."""

    kind: str
    lossy: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    """Variables for the chat template."""
    words: str = ""
    """The part after the kind, as it was given."""

    def as_kind(self, kind: str) -> str:
        """The feed of a text that was fed as chat or raw, as results name it.

        >>> parse_feed("chat:lossy").as_kind("chat")
        'chat:lossy'
        """
        return f"{kind}:{self.words}" if self.words else kind


def parse_feed(feed: str) -> Feed:
    """Parse a feed. Raises `TextError` for an unknown one.

    >>> parse_feed("chat:enable_thinking=false").options
    {'enable_thinking': False}
    """
    kind, colon, words = str(feed).partition(":")
    options: dict[str, Any] = {}
    given = words.split(",") if colon else []
    refuse_twice(f"--feed {feed!r:.200}", [word.partition("=")[0] for word in given], TextError)
    for word in given:
        name, equals, value = word.partition("=")
        known = word == LOSSY or (equals and kind == "chat" and re.fullmatch(r"[A-Za-z]\w*", name))
        if kind not in FEEDS or (colon and kind == "auto") or not known:
            raise _unknown(feed)
        if name == "add_generation_prompt":
            raise TextError(f"--feed {feed!r:.200}: only `generate` sets {name}", "leave it out")
        if word != LOSSY:
            options[name] = _parse_value(value)
    if kind not in FEEDS:
        raise _unknown(feed)
    return Feed(kind=kind, lossy=LOSSY in given, options=options, words=words)


def check_feed(feed: str) -> None:
    """Raise `TextError` for an unknown feed."""
    parse_feed(feed)


def _parse_value(word: str) -> Any:
    """A number, true, false or null as in JSON; anything else stays a string."""
    try:
        found = files.load_json(word)
    except ValueError:
        return word
    return found if found is None or isinstance(found, bool | int | float) else word


def _unknown(feed: str) -> TextError:
    return TextError(
        f"unknown feed {feed!r}",
        f"expected one of {', '.join(FEEDS)}, or chat:NAME=VALUE (an option "
        f"of the chat template), chat:{LOSSY} or raw:{LOSSY} (accept that content is left out)",
    )
