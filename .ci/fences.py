"""Examples in docstrings, as blocks of code on the documentation site."""

import re
from typing import Any

from griffe import Extension, Object

EXAMPLE = re.compile(r"^>>> .*(?:\n.+)*", re.MULTILINE)


class Fences(Extension):
    """Puts fences around the doctests of a docstring."""

    def on_object(self, *, obj: Object, **kwargs: Any) -> None:
        """Called for every object once it is known."""
        if obj.docstring and ">>> " in obj.docstring.value:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(docstring: str) -> str:
    """The docstring with each example between fences."""
    return EXAMPLE.sub(lambda found: f"```pycon\n{found[0]}\n```", docstring)
