"""Formulas of the documentation as MathML, which browsers draw without a script or a network.

An extension of Markdown that mkdocs.yml names. Pages write formulas as GitHub renders them: in a
line between "$`" and "`$", alone in a block of ```math. A formula that is not understood is
refused.
"""

import re
from typing import Any

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from markdown.preprocessors import Preprocessor

BLOCK = re.compile(r"^```math\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
INLINE = r"\$`([^`\n]+)`\$"


def as_mathml(tex: str, display: str = "inline") -> str:
    r"""A formula in TeX as MathML. Raises `ValueError` for a command that is not known.

    >>> as_mathml(r"\nosuch x")
    Traceback (most recent call last):
    ValueError: expected a formula in TeX, but \nosuch is unknown in \nosuch x
    """
    made = convert(tex, display=display)
    unknown = re.search(r"\\\w*|(?<=>)&(?=<)", made)
    if unknown:
        raise ValueError(f"expected a formula in TeX, but {unknown[0]} is unknown in {tex}")
    return made


class Blocks(Preprocessor):
    """Blocks of ```math, before the extension that shows code takes them."""

    def run(self, lines: list[str]) -> list[str]:
        """The page with a placeholder for each block."""
        return BLOCK.sub(lambda found: self._stored(found[1]), "\n".join(lines)).split("\n")

    def _stored(self, tex: str) -> str:
        return str(self.md.htmlStash.store(as_mathml(tex.replace("\n", " "), "block")))


class Inline(InlineProcessor):
    """Formulas in a line, before code between backticks is found."""

    def handleMatch(self, m: re.Match[str], data: str) -> Any:  # noqa: N802
        """The placeholder of a formula, and where it stood."""
        return self.md.htmlStash.store(as_mathml(m[1])), m.start(0), m.end(0)


class Formulas(Extension):
    """Both kinds of formulas."""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802
        """Called once for every page."""
        md.preprocessors.register(Blocks(md), "math blocks", 28)  # superfences: 25
        md.inlinePatterns.register(Inline(INLINE, md), "math", 195)  # backticks: 190


def makeExtension(**options: Any) -> Formulas:  # noqa: N802
    """What Markdown calls."""
    return Formulas(**options)
