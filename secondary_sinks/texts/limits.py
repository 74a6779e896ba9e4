"""How large files and texts may be: said with the number that came, before any work starts."""

from collections.abc import Sequence
from pathlib import Path

from secondary_sinks.errors import TextError
from secondary_sinks.texts.text import Text

MOST_BYTES = 200_000_000
"""Size of a file of texts."""
MOST_LINES = 20_000
"""Lines of a file of JSON lines, blank ones included."""
LONGEST_LINE = 10_000_000
"""Characters of a JSON line: room for the longest text with all its characters escaped."""
LONGEST_ID = 1_000
"""Characters of an id: each row of a table repeats it."""
LONGEST_TEXT = 1_000_000
"""Characters of a text, that is some 250,000 tokens: a tokenizer takes seconds for it."""


def check_bytes(path: Path) -> None:
    """Raise `TextError` for a file of more than `MOST_BYTES`."""
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise TextError(
            f"{str(path)!r} has {size:,} bytes; expected at most {MOST_BYTES:,}: split it into "
            "several files"
        )


def split_json_lines(content: str, name: str) -> list[str]:
    """The lines of a file. Raises `TextError` for too many, or one that is too long."""
    content = content.rstrip("\n")
    n_lines = content.count("\n") + 1
    if n_lines > MOST_LINES:
        raise TextError(
            f"{name!r} has {n_lines:,} lines; expected at most {MOST_LINES:,}: split it into "
            "several files"
        )
    lines = content.split("\n")
    for number, line in enumerate(lines, start=1):
        if len(line) > LONGEST_LINE:
            raise TextError(
                f"{name}:{number}: the line has {len(line):,} characters; expected at most "
                f"{LONGEST_LINE:,}"
            )
    return lines


def check_lengths(texts: Sequence[Text], name: str) -> list[Text]:
    """The texts. Raises `TextError` for one that is too long, or has too long an id."""
    for text in texts:
        if len(text.text_id) > LONGEST_ID:
            raise TextError(
                f"{name}: id {text.text_id[:40]!r}... has {len(text.text_id):,} characters; "
                f"expected at most {LONGEST_ID:,}"
            )
        length = len(text.raw)
        if length > LONGEST_TEXT:
            raise TextError(
                f"{name}: text {text.text_id!r} has {length:,} characters; expected at most "
                f"{LONGEST_TEXT:,}: split it"
            )
    return list(texts)
