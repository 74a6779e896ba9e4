"""What a command prints: one line at a time, with nothing in it that steers a terminal."""

LONGEST_WORD = 400
"""Of a message, in characters: a value of 5,000 is not worth a screen."""


class Stopped(Exception):  # noqa: N818  nothing went wrong
    """The end of a command that has been told about already, with its exit code."""

    def __init__(self, code: int, line: str = "") -> None:
        """`line` goes to the standard error."""
        super().__init__(line)
        self.code = code


def printable(text: str) -> str:
    """The text with control characters (terminal escapes among them) made visible."""
    return "".join(c if c.isprintable() or c in "\n " else f"\\x{ord(c):02x}" for c in text)


def one_line(message: str) -> str:
    """The message on one line, with nothing in it that steers a terminal, and no endless word."""
    words = printable(message).split()
    return " ".join(w if len(w) <= LONGEST_WORD else f"{w[:LONGEST_WORD]}..." for w in words)


def say(message: object) -> None:
    """A line on the standard output, unwrapped so that a path can be copied."""
    print(printable(str(message)))
