"""Printing: one line at a time, with control characters made visible."""

LONGEST_WORD = 400
"""Longest message in characters; a value of 5,000 is not worth a screen."""


class Stopped(Exception):  # noqa: N818  not an error
    """Ends a command whose outcome was already printed, with its exit code."""

    def __init__(self, code: int, line: str = "") -> None:
        """`line` is printed on standard error."""
        super().__init__(line)
        self.code = code


def printable(text: str) -> str:
    """The text with control characters, such as terminal escapes, made visible."""
    return "".join(c if c.isprintable() or c in "\n " else f"\\x{ord(c):02x}" for c in text)


def one_line(message: str) -> str:
    """The message on one line, with control characters visible and long words cut."""
    words = printable(message).split()
    return " ".join(w if len(w) <= LONGEST_WORD else f"{w[:LONGEST_WORD]}..." for w in words)


def say(message: object) -> None:
    """Print a line on standard output at once, not wrapped, so that a path can be copied."""
    print(printable(str(message)), flush=True)
