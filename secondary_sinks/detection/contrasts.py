"""Difference in differences: what a secondary sink changes in the attention paid to the primary.

Queries before a secondary sink cannot see it, so they show how much attention the primary loses at
that layer without it. But early and late queries may differ anyway, since late ones see more keys.
So each text with a sink is compared, query by query, with one text that has no secondary sink up to
the same positions, at the same layers. Each text is used in one pair only.

A query depends on the tokens up to it alone, so where texts begin with the same tokens, they repeat
one measurement. A query whose tokens up to it stand in an earlier pair as well is therefore not
compared again, unless the two texts of its own pair share these tokens: then it cancels. So pairs
are independent. Who is paired with whom depends on tokens and on the positions of the sinks, never
on the measured attention.
"""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from secondary_sinks.detection.levels import counts_for_levels
from secondary_sinks.detection.prefixes import n_alike
from secondary_sinks.types import Sink, SinkTable, Trace, WeakeningContrast, read_by_next

LEAST_QUERIES = 4
"""Least number of queries on each side of a sink; with fewer, single words would decide."""
FEW_BEFORE = f"fewer than {LEAST_QUERIES} queries before the first sink see the primary"
FEW_AFTER = f"fewer than {LEAST_QUERIES} queries after the first sink see the primary"
INACTIVE = "the primary is missing, or another is the reference, at a layer that is compared"
COPY = "the first sink is a copy of one in an earlier text"
"""Why the first secondary sink of a text cannot be asked."""
ROUNDING = 1e-5
"""Differences of attention up to this are rounding, and count as 0."""

GROUPS = (
    "after the sink",
    "before the sink",
    "same places, no sink: after",
    "same places, no sink: before",
)
"""Groups of queries whose attention to the primary is shown; the last two: the paired text."""

Values = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Text:
    """Attention paid to the primary by each query of a text, and the first secondary sink."""

    text_id: str
    tokens: Places
    """Token ids [pos]."""
    primary: int
    paid: Values
    """Attention paid to the primary [layer of the state that is read, query]. NaN where the
    primary is not active or not the reference, and at queries that cannot see it."""
    first: Sink | None
    """Its first secondary sink, of any level; None if it has no secondary sink."""

    @property
    def free_until(self) -> int:
        """Number of queries before the first secondary sink, which cannot see any."""
        return self.paid.shape[1] if self.first is None else self.first.pos


def text_of(trace: Trace, primary: Sink, sinks: SinkTable) -> Text:
    """`Text` of a trace, from its primary and all sinks."""
    own = [one for one in sinks.of_text(trace.text_id).sinks if one.kind == "secondary"]
    return Text(
        text_id=trace.text_id,
        tokens=trace.tokens.numpy(),
        primary=primary.pos,
        paid=paid_of(trace, primary),
        first=min(own, key=lambda one: one.pos, default=None),
    )


def paid_of(trace: Trace, primary: Sink, paid: Float[Tensor, "layer pos"] | None = None) -> Values:
    """Attention that queries pay to a primary [layer of the state that is read, query].

    `paid` is the attention of an edited run; by default that of the clean run. NaN where the
    primary is not active or not the reference.
    """
    read = read_by_next(trace.paid_to_primary if paid is None else paid).double().numpy()
    active = np.isin(np.arange(len(read)), primary.layers)
    active &= trace.reference.numpy() == primary.pos
    return np.where(active[:, None], read, np.nan)


def step(paid: Values, layer: int, window: int) -> Values:
    """Mean over `window` layers from `layer` on, minus the mean over as many before it [query].

    NaN where one of these layers does not exist or has no value.
    """
    if not window <= layer <= len(paid) - window:
        return np.full(paid.shape[1], np.nan)
    after, before = paid[layer : layer + window], paid[layer - window : layer]
    change: Values = after.mean(0) - before.mean(0)
    return change


def contrasts(texts: Sequence[Text], window: int) -> list[WeakeningContrast]:
    """One contrast per text whose first secondary sink has enough queries and layers around it."""
    able = [text for text in texts if text.first is not None and not why_not(text, window)]
    pairs = pair(able, texts, window)
    used = [text for one, (other, _) in pairs.items() for text in (one, other)]
    found = []
    for text in able:
        other, n_repeated = pairs.get(text, (None, _n_repeated(text, used, _n_alike)))
        found.append(_contrast(text, other, n_repeated, window))
    return found


def why_not(text: Text, window: int) -> str:
    """Why the first secondary sink of a text cannot be asked; empty if it can.

    The first of these that is true: `FEW_BEFORE` by its position alone, `INACTIVE`, `FEW_BEFORE`
    or `FEW_AFTER` by the queries that see the primary, `COPY`. The text must have such a sink.
    """
    assert text.first is not None
    n_before, n_after = map(len, sides(text, None, window))
    holds = {
        FEW_BEFORE: text.first.pos - text.primary - 1 < LEAST_QUERIES,
        INACTIVE: n_before + n_after == 0,
    }
    by_queries = {FEW_BEFORE: n_before < LEAST_QUERIES, FEW_AFTER: n_after < LEAST_QUERIES}
    reasons = [*holds.items(), *by_queries.items(), (COPY, not counts_for_levels(text.first))]
    return next((reason for reason, true in reasons if true), "")


def _enough(compared: tuple[Places, Places]) -> bool:
    return min(map(len, compared)) >= LEAST_QUERIES


def pair(
    able: Sequence[Text], texts: Sequence[Text], window: int
) -> Mapping[Text, tuple[Text, int]]:
    """Disjoint pairs of texts, as many as possible: text with a sink -> (control, n_repeated).

    Texts whose first sinks come earliest are paired with the texts that are free of secondary
    sinks for longest. `n_repeated` is the number of tokens from the first on that a text of an
    earlier pair has too; a pair is made only if enough queries are left without theirs.
    """
    asked = sorted(able, key=lambda text: (text.free_until, text.text_id))
    compared = functools.cache(functools.partial(sides, window=window))
    alike = functools.cache(_n_alike)
    best: dict[Text, tuple[Text, int]] = {}
    for number in range(1, len(asked) + 1):
        chosen = asked[:number]
        rest = [text for text in texts if text not in chosen]
        rest = sorted(rest, key=lambda text: (text.free_until, text.text_id))
        best = max(best, _paired(chosen[::-1], rest[::-1], compared, alike), key=len)
    return best


def _paired(
    chosen: Sequence[Text],
    controls: list[Text],
    compared: Callable[..., tuple[Places, Places]],
    alike: Callable[[Text, Text], int],
) -> dict[Text, tuple[Text, int]]:
    """Each text with the first control that leaves enough queries which no earlier pair has."""
    found: dict[Text, tuple[Text, int]] = {}
    used: list[Text] = []
    for one in chosen:
        for other in controls:
            if not _enough(compared(one, other)):
                continue
            n_repeated = max(_n_repeated(text, used, alike) for text in (one, other))
            if _enough(compared(one, other, n_repeated=n_repeated)):
                found[one] = other, n_repeated
                used += [one, other]
                controls.remove(other)
                break
    return found


def _n_repeated(text: Text, used: Sequence[Text], alike: Callable[[Text, Text], int]) -> int:
    """Number of tokens from the first on that one of the used texts has too; 0 if it is used."""
    return 0 if text in used else max((alike(text, one) for one in used), default=0)


def _n_alike(one: Text, other: Text) -> int:
    return n_alike(one.tokens, other.tokens)


def sides(
    text: Text, other: Text | None, window: int, n_repeated: int = 0
) -> tuple[Places, Places]:
    """Queries before and after the first secondary sink of a text; all of them see the primary.

    If another text is given: only positions that it has too, before its first secondary sink.
    Without the first `n_repeated` positions, but for those at which both texts, with the same
    tokens and primary so far, measure the same.
    """
    assert text.first is not None
    change, primary, same = step(text.paid, text.first.l_start, window), text.primary, 0
    if other is not None:
        end, primary = min(len(change), other.free_until), max(primary, other.primary)
        change = change[:end] + step(other.paid, text.first.l_start, window)[:end]
        same = _n_alike(text, other) if text.primary == other.primary else 0
    known = np.flatnonzero(np.isfinite(change))
    known = known[(known > primary) & ((known >= n_repeated) | (known < same))]
    return known[known < text.first.pos], known[known > text.first.pos]


def _contrast(text: Text, other: Text | None, n_repeated: int, window: int) -> WeakeningContrast:
    assert text.first is not None
    layer = text.first.l_start
    own, shared = sides(text, None, window), sides(text, other, window, n_repeated)
    before, after = (float(step(text.paid, layer, window)[part].mean()) for part in own)
    matched = control = math.nan
    if other is not None:
        matched, control = (_change(one, layer, window, shared) for one in (text, other))
    return WeakeningContrast(
        text_id=text.text_id,
        pos=text.first.pos,
        token=text.first.token,
        l_start=layer,
        change_before=before,
        change_after=after,
        change=after - before,
        control="" if other is None else other.text_id,
        n_repeated=n_repeated,
        n_before=len(shared[0]),
        n_after=len(shared[1]),
        change_matched=matched,
        change_control=control,
        difference=0.0 if abs(matched - control) <= ROUNDING else matched - control,
    )


def _change(text: Text, layer: int, window: int, of: tuple[Places, Places]) -> float:
    """Change at the queries after the sink, minus the change at those before it."""
    change = step(text.paid, layer, window)
    return float(change[of[1]].mean() - change[of[0]].mean())


def at_sides(
    one: WeakeningContrast, by_id: Mapping[str, Text], window: int, relative: int
) -> list[float]:
    """Mean over the queries of each of the `GROUPS`; NaN for a group without queries."""
    text, other, layer = by_id[one.text_id], by_id.get(one.control), one.l_start + relative
    before, after = sides(text, other, window, one.n_repeated)
    return [
        math.nan
        if shown is None or not len(queries) or not 0 <= layer < len(shown.paid)
        else float(shown.paid[layer, queries].mean())
        for shown in (text, other)
        for queries in (after, before)
    ]
