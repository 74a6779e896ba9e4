"""How results show themselves: one line in a shell, a table or card in a notebook, a figure.

Every result of this package is `Displayed`. All HTML is made here and escaped here, since tokens
may hold anything. The figures are those of `secondary_sinks.plots`, which rooms of results must not
import: the package's `__init__`, which knows all rooms, hands `plot` in as `plotter`.
"""

import math
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from typing import Any, Generic, SupportsIndex, TypeVar, overload

TYPE_CHECKING = False  # `import secondary_sinks` reads this module: it imports little
if TYPE_CHECKING:
    from typing import ClassVar, Self

    import pandas as pd

Item = TypeVar("Item")
_NAMED = {" ": "␣", "\n": "⏎", "\t": "⇥"}
_HIDDEN = {"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs"}
"""Unicode categories that draw nothing, or change how adjacent characters are drawn."""
LONGEST, MOST_ROWS, MOST_TOKENS = 200, 20, 400
"""Characters of a line in a shell, rows of a table and tokens of a strip in a notebook."""
COLOURS = {"supported": "#009e73", "contradicted": "#d55e00", "inconclusive": "#8a8f98"}


class Displayed:
    """Base of results: subclasses say in `_line` what they hold and in `_html` how it looks."""

    __slots__ = ()
    plotter: Callable[..., Any] | None = None
    """`secondary_sinks.plots.plot`."""

    def _line(self) -> str:
        raise NotImplementedError

    def _html(self) -> str:
        return table_html(self.to_frame())  # type: ignore[attr-defined]

    def __repr__(self) -> str:
        """The type, and in a few words what it holds."""
        line = make_visible(self._line(), keep=" ")
        return (
            f"{type(self).__name__}({line[: LONGEST - 1] + '…' if len(line) > LONGEST else line})"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return f"<div><code>{_escaped(repr(self))}</code>{self._html()}</div>"

    def _drawn(self) -> Any:
        """What `plot` draws of this result."""
        return self

    def plot(self, **options: Any) -> Any:
        """The obvious figure of this result; `options` are those of `secondary_sinks.plot`."""
        assert Displayed.plotter is not None
        return Displayed.plotter(self._drawn(), **options)


class Listed(Displayed, Generic[Item]):
    """A result that is a sequence of the items in one of its fields; a slice is one again."""

    __slots__ = ()
    _items: "ClassVar[str]"
    """The name of the field."""

    def __len__(self) -> int:
        """Number of items."""
        return len(getattr(self, self._items))

    def __iter__(self) -> Iterator[Item]:
        """Item by item."""
        return iter(getattr(self, self._items))

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> "Self": ...
    def __getitem__(self, index: int | slice) -> "Item | Self":
        """One item, or the result with the items of a slice."""
        from dataclasses import replace

        found, given = getattr(self, self._items)[index], self  # type: Any, Any
        return replace(given, **{self._items: found}) if isinstance(index, slice) else found


Results = Displayed | Sequence[Displayed]
"""What stands for its frame where one is expected."""


def as_frame(given: "pd.DataFrame | Results") -> "pd.DataFrame":
    """The frame of a result, or of several, one after the other; a frame stays as it is."""
    if isinstance(given, list | tuple):
        import pandas as pd

        return pd.concat([as_frame(one) for one in given], ignore_index=True)
    return given.to_frame() if isinstance(given, Displayed) else given  # type: ignore


def make_visible(text: str, *, keep: str = "", most: int | None = None) -> str:
    """Text with visible white space, control, bidirectional and unassigned characters.

    Characters in `keep` are unchanged. Text longer than `most` characters is cut.

    >>> make_visible(" the\\n"), make_visible("a\\u202eb"), make_visible("tokenization", most=6)
    ('␣the⏎', 'a⟨U+202E⟩b', 'token…')
    """
    shown = "".join(char if char in keep else _visible_form(char) for char in text)
    return shown if most is None or len(shown) <= most else shown[: most - 1] + "…"


def count(n: SupportsIndex, noun: str, plural: str | None = None) -> str:
    """A count with its noun.

    >>> count(1, "text"), count(6869, "token")
    ('1 text', '6,869 tokens')
    """
    whole = operator.index(n)
    return f"{whole:,} {noun if whole == 1 else plural or noun + 's'}"


def rounded(number: float | int, digits: int = 3) -> str:
    """A number with `digits` significant digits and no exponent; a dash for NaN.

    >>> rounded(120.0, 2), rounded(12345.6), rounded(0.00012, 1), rounded(0.5), rounded(-0.0)
    ('120', '12,300', '0.0001', '0.5', '0')
    """
    if not math.isfinite(number):
        return "\u2013" if math.isnan(number) else str(number)
    return format(Decimal(f"{number + 0.0:.{digits}g}"), ",f")


def percent_or_number(value: float, *, share: bool) -> str:
    """A share in whole per cent, any other number with two decimals; never a minus before zero.

    >>> percent_or_number(0.957, share=True), percent_or_number(-0.004, share=True)
    ('96%', '0%')
    >>> percent_or_number(-0.812, share=False), percent_or_number(-0.001, share=False)
    ('-0.81', '0.00')
    """
    shown = f"{value:.0%}" if share else f"{value:.2f}"
    return shown.removeprefix("-") if not shown.strip("-0.%") else shown


def tally(words: Iterable[str]) -> str:
    """How often each word occurs, in order of first occurrence.

    >>> tally(["primary", "secondary", "secondary"])
    '1 primary, 2 secondary'
    """
    found: dict[str, int] = {}
    for word in words:
        found[word] = found.get(word, 0) + 1
    return ", ".join(f"{number:,} {word}" for word, number in found.items())


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table in Markdown.

    >>> markdown_table(["token", "layer"], [["the", "3"]])
    ['| token | layer |', '|---|---|', '| the | 3 |']
    """
    first, *rest = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return [first, "|---" * len(head) + "|", *rest]


def table_html(frame: "pd.DataFrame", columns: Sequence[str] | None = None) -> str:
    """The first rows of a frame as an HTML table, and how many rows there are further."""
    first = frame[list(columns or frame.columns)].head(MOST_ROWS)
    heads = "".join(f"<th>{_escaped(str(name).replace('_', ' '))}</th>" for name in first.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row) + "</tr>"
        for row in first.itertuples(index=False)
    )
    left = len(frame) - len(first)
    more = f"<p>and {count(left, 'further row')}: <code>.to_frame()</code></p>" if left else ""
    return f"<table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table>{more}"


def strip_html(tokens: Sequence[str], strengths: Sequence[float], says: Sequence[str]) -> str:
    """A text as its tokens, each as blue as its strength (0 to 1), with a tooltip."""
    spans = "".join(
        f'<span title="{_escaped(tip)}" style="background:rgba(10,132,198,{_share(strength):.2f})">'
        f"{_escaped(make_visible(token, keep=' '))}</span>"
        for token, strength, tip in zip(tokens[:MOST_TOKENS], strengths, says, strict=False)
    )
    left = len(tokens) - MOST_TOKENS
    more = f" … {count(left, 'further token')}" if left > 0 else ""
    return f'<p style="line-height:1.8;white-space:pre-wrap">{spans}{more}</p>'


def card_html(outcome: str, claim: str, lines: Sequence[str]) -> str:
    """A verdict: its outcome in colour, the claim, and lines of evidence."""
    colour = COLOURS.get(outcome, COLOURS["inconclusive"])
    rest = "".join(f"<br>{_escaped(line)}" for line in lines if line)
    return (
        f'<div style="border-left:4px solid {colour};padding:2px 8px;margin:6px 0">'
        f"<b>{_escaped(outcome)}</b> {_escaped(claim)}<small>{rest}</small></div>"
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return "\u2013" if math.isnan(value) else rounded(value, 4)
    text = str(value)
    return _escaped(text if text == text.strip() else make_visible(text))


def _escaped(text: str) -> str:
    from html import escape

    return escape(make_visible(text, keep=" "))


def _share(strength: float) -> float:
    return 0.0 if math.isnan(strength) else min(max(strength, 0.0), 1.0)


def _visible_form(char: str) -> str:
    from unicodedata import category

    if char in _NAMED:
        return _NAMED[char]
    if category(char) in _HIDDEN:
        return f"⟨U+{ord(char):04X}⟩"
    return char
