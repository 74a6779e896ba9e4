"""Limits on the size of files and texts, checked before any work starts."""

from collections.abc import Sequence
from pathlib import Path

from secondary_sinks.errors import TextError
from secondary_sinks.texts.text import Text

MOST_BYTES = 200_000_000
"""Maximum size of a file of texts."""
MOST_LINES = 20_000
"""Maximum number of JSON lines, blank ones included."""
LONGEST_LINE = 10_000_000
"""Maximum number of characters of a JSON line: the longest text, with every character escaped."""
LONGEST_ID = 1_000
"""Maximum number of characters of an id, which each row of a table repeats."""
LONGEST_TEXT = 1_000_000
"""Maximum number of characters of a text: some 250,000 tokens, which take seconds to tokenize."""


def check_bytes(path: Path) -> None:
    """Raise `TextError` for a file of more than `MOST_BYTES`."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise TextError(
            f"{str(path)!r} has {size:,} bytes",
            f"expected at most {MOST_BYTES:,}: split it into several files",
        )


def split_json_lines(content: str, name: str) -> list[str]:
    """The lines of a file. Raises `TextError` for too many lines, or a line that is too long."""
    content = content.rstrip("\n")
    n_lines = content.count("\n") + 1
    if n_lines > MOST_LINES:
        raise TextError(
            f"{name!r} has {n_lines:,} lines",
            f"expected at most {MOST_LINES:,}: split it into several files",
        )
    lines = content.split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_LINE:
            raise TextError(
                f"{name}:{number}: the line has {len(line):,} characters",
                f"expected at most {LONGEST_LINE:,}",
            )
    return lines


def check_lengths(texts: Sequence[Text], name: str) -> list[Text]:
    """The texts, unchanged. Raises `TextError` if a text or its id is too long."""
    for text in texts:
        if len(text.text_id) > LONGEST_ID:
            raise TextError(
                f"{name}: id {text.text_id[:40]!r}... has {len(text.text_id):,} characters; "
                f"expected at most {LONGEST_ID:,}"
            )
        length = len(text.raw)
        if length > LONGEST_TEXT:
            raise TextError(
                f"{name}: text {text.text_id!r} has {length:,} characters",
                f"expected at most {LONGEST_TEXT:,}: split it",
            )
    return list(texts)
