"""Are a model's secondary sinks those of the paper? Four criteria, counts and rates, as facts.

The paper (Wong et al. 2025, arXiv 2512.22213) describes sinks that arise after the primary, in
middle layers, and are weaker than it; its authors' rule finds them by their direction.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median, median_low
from typing import TYPE_CHECKING, Any

from jaxtyping import Int
from torch import Tensor

from secondary_sinks.detection.detect import detect
from secondary_sinks.detection.prefixes import n_alike
from secondary_sinks.display import Displayed, count
from secondary_sinks.errors import DetectionError
from secondary_sinks.types import Sink, SinkTable, Trace, as_traces

if TYPE_CHECKING:
    import pandas as pd

PAPER_RATES: Mapping[str, tuple[float, float]] = {
    "DeepSeek-R1-Distill-Qwen-14B": (0.85, 1.3),
    "Qwen3-4B-Base": (3.4, 3.4),
}
"""Secondary sinks per 10,000 tokens, lowest and highest, in the authors' released detections."""
LOWEST = min(low for low, _ in PAPER_RATES.values())
HIGHEST = max(high for _, high in PAPER_RATES.values())
PER = 10_000
LEAST_EXPECTED = 3.0
"""A rate is stated for texts in which the paper's highest rate makes at least this many sinks. If 3
independent events are expected, finding no event has a probability of exp(-3) = 5 %; if fewer are
expected, finding no event says nothing."""
START = 4
"""A sink in the first of this many equal parts of a text stands at its start."""
CRITERIA = ("after_primary", "in_middle_layers", "weaker_than_primary", "found_by_paper")
LABELS = ("secondary", "bos_sink", "noise")
"""Labels of the paper's rule."""


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Phenomenon(Displayed):
    """How far the secondary sinks of some texts are those that the paper describes.

    A criterion is met if more than half of the distinct secondary sinks of the joint criterion meet
    it. Sinks with the same tokens up to and including their own are one computation, so they count
    as one distinct sink; only `n_secondary` counts all of them.
    """

    answer: str
    """yes: more than half of the sinks meet all four criteria; partly: some do, or more than half
    arise after the primary; no: neither; "no sinks": no secondary sink was found."""
    after_primary: bool
    """Created at a later layer than the primary of their text."""
    in_middle_layers: bool
    """Created neither in the first nor in the last third of the layers (`middle`)."""
    weaker_than_primary: bool
    """Their largest attention mass is below that of the primary."""
    found_by_paper: bool
    """The paper's rule finds them too, whatever it calls them."""
    n_after_primary: int
    n_in_middle_layers: int
    n_weaker_than_primary: int
    n_found_by_paper: int
    n_all: int
    """Sinks that meet all four criteria."""
    n_secondary: int
    """Secondary sinks, copies included."""
    n_distinct: int
    n_transient: int
    """Tokens that are sinks too briefly or too weakly to count."""
    layers_after: float
    """Median number of layers from the creation of the primary to that of the sink; NaN without
    sinks."""
    created_at: tuple[int, ...]
    """Number of secondary sinks by creation layer, from layer 0 on."""
    primary_at: tuple[int, ...]
    """Number of texts by the layer at which their primary is created, from layer 0 on."""
    positions: tuple[int, ...] = ()
    """First, median and last position of the distinct secondary sinks; empty without sinks."""
    lengths: tuple[int, ...] = ()
    """Number of tokens of the shortest and of the longest text."""
    n_by_paper: int
    """Tokens other than the primary that the paper's rule finds."""
    n_labelled: tuple[int, ...]
    """Those that it labels secondary, bos_sink and noise."""
    label_lifetimes: tuple[int, int]
    """Shortest and longest lifetime that its label `secondary` allows in this model; in a model of
    few layers the longest is shorter, and nothing has this label."""
    n_layers: int
    n_texts: int
    n_tokens: int
    n_tokens_distinct: int
    """Tokens, those of a beginning that texts share counted once."""
    rate: float
    """Secondary sinks per 10,000 distinct tokens; NaN where the texts are too short for a rate."""
    rate_by_paper: float
    """The same for those that the paper's rule labels secondary."""

    def _line(self) -> str:
        met = f"{self.n_all:,} of {count(self.n_distinct, 'distinct secondary sink')}"
        return f"{self.answer}: all four criteria are met by {met}"

    def to_frame(self) -> "pd.DataFrame":
        """One row per criterion: whether it is met, and by how many of the sinks."""
        import pandas as pd

        rows = [(n, getattr(self, n), getattr(self, f"n_{n}"), self.n_distinct) for n in CRITERIA]
        return pd.DataFrame(rows, columns=["criterion", "met", "n_sinks", "n_distinct"])

    @property
    def middle(self) -> tuple[int, int]:
        """First and last layer of the middle: a third of the layers lies on either side of it."""
        return middle_layers(self.n_layers)

    @property
    def expected(self) -> tuple[float, float]:
        """Number of secondary sinks in this much text at the paper's lowest and highest rate."""
        return LOWEST * self.n_tokens_distinct / PER, HIGHEST * self.n_tokens_distinct / PER

    @property
    def only_at_the_start(self) -> bool:
        """Whether all sinks stand in the first quarter of even the shortest text."""
        return bool(self.positions) and self.positions[-1] < self.lengths[0] // START

    @property
    def is_long_enough(self) -> bool:
        """Whether the texts are long enough for a rate (see `LEAST_EXPECTED`)."""
        return self.rate == self.rate


def phenomenon(traces: Trace | Iterable[Trace], sinks: SinkTable) -> Phenomenon:
    """Compare the secondary sinks of one or more texts with what the paper describes.

    `sinks` are those that `detect` found in `traces` by the joint criterion; the paper's rule is
    applied with the same thresholds. Raises `DetectionError` for sinks of another criterion, of a
    text without a trace, and for no trace at all.
    """
    texts = as_traces(traces)
    if not texts:
        raise DetectionError("no trace was given", "expected at least one")
    theirs = detect(texts, sinks.thresholds, criterion="paper")
    tokens = {trace.text_id: trace.tokens for trace in texts}
    return compare_with_paper(sinks, theirs, tokens, n_layers=len(texts[0].norm))


def compare_with_paper(
    ours: SinkTable, theirs: SinkTable, tokens: Mapping[str, Int[Tensor, "pos"]], *, n_layers: int
) -> Phenomenon:
    """`phenomenon` from the sinks of both criteria and the tokens of each text."""
    primaries = _primaries(ours)
    _refuse_others(ours, tokens, primaries)
    sinks = distinct(ours.of_kind("secondary").sinks)
    found = {(sink.text_id, sink.pos) for sink in theirs.sinks if sink.kind != "primary"}
    met = [_met(sink, primaries, found, n_layers) for sink in sinks]
    counts = {name: sum(one[name] for one in met) for name in CRITERIA}
    are_met: dict[str, Any] = {name: 2 * n > len(sinks) for name, n in counts.items()}
    are_met |= {f"n_{name}": n for name, n in counts.items()}
    n_all = sum(all(one.values()) for one in met)
    after = [sink.l_start - primaries[sink.text_id][0] for sink in sinks]
    others = distinct([sink for sink in theirs.sinks if sink.kind != "primary"])
    labels = Counter(sink.label for sink in others)
    n_tokens = n_distinct_tokens(tokens.values())
    limits = ours.thresholds
    at, lengths = [sink.pos for sink in sinks], [len(ids) for ids in tokens.values()]
    return Phenomenon(
        answer=_answer(len(sinks), counts["after_primary"], n_all),
        **are_met,
        n_all=n_all,
        n_secondary=len(ours.of_kind("secondary").sinks),
        n_distinct=len(sinks),
        n_transient=len(distinct(ours.of_kind("transient").sinks)),
        layers_after=float(median(after)) if after else math.nan,
        created_at=_by_layer([sink.l_start for sink in sinks], n_layers),
        primary_at=_by_layer([layer for layer, _ in primaries.values()], n_layers),
        positions=(min(at), median_low(at), max(at)) if at else (),
        lengths=(min(lengths), max(lengths)) if lengths else (),
        n_by_paper=len(others),
        n_labelled=tuple(labels[label] for label in LABELS),
        label_lifetimes=(limits.paper_noise + 1, n_layers - limits.paper_margin - 1),
        n_layers=n_layers,
        n_texts=len(tokens),
        n_tokens=sum(map(len, tokens.values())),
        n_tokens_distinct=n_tokens,
        rate=rate_of(len(sinks), n_tokens),
        rate_by_paper=rate_of(labels["secondary"], n_tokens),
    )


def middle_layers(n_layers: int) -> tuple[int, int]:
    """First and last layer of the middle third of a model.

    >>> middle_layers(24), middle_layers(48), middle_layers(1)
    ((8, 15), (16, 31), (0, 0))
    """
    return n_layers // 3, n_layers - n_layers // 3 - 1


def distinct(sinks: Sequence[Sink]) -> list[Sink]:
    """One sink for each beginning of a text up to a sink; copies of it are left out."""
    first: dict[tuple[str, int], Sink] = {}
    for sink in sinks:
        first.setdefault((sink.copy_of or sink.text_id, sink.pos), sink)
    return list(first.values())


def n_distinct_tokens(texts: Iterable[Int[Tensor, "pos"]]) -> int:
    """Number of tokens of the texts; those of a beginning that texts share count once."""
    ordered = sorted(text.tolist() for text in texts)
    return sum(len(ids) - n_alike(before, ids) for before, ids in pairwise([[], *ordered]))


def _refuse_others(sinks: SinkTable, texts: Iterable[str], with_primary: Iterable[str]) -> None:
    """Raise `DetectionError` for sinks that are not all those of `detect` in these texts."""
    for sink in sinks.sinks:
        if sink.criterion != "joint":
            wrong = f"a sink of the criterion {sink.criterion!r}"
        elif sink.text_id not in texts:
            wrong = f"a sink of text {sink.text_id!r}, of which no trace was given"
        elif sink.text_id not in with_primary:
            wrong = f"a sink of text {sink.text_id!r}, but not its primary"
        else:
            continue
        raise DetectionError(f"the table has {wrong}", "give all sinks of detect(traces)")


def _primaries(sinks: SinkTable) -> dict[str, tuple[int, float]]:
    """Creation layer and largest attention mass of the primary, by text."""
    found: dict[str, tuple[int, float]] = {}
    for sink in sinks.of_kind("primary").sinks:
        layer, mass = found.get(sink.text_id, (sink.l_start, sink.mass_max))
        found[sink.text_id] = min(layer, sink.l_start), max(mass, sink.mass_max)
    return found


def _met(
    sink: Sink,
    primaries: Mapping[str, tuple[int, float]],
    found: set[tuple[str, int]],
    n_layers: int,
) -> dict[str, bool]:
    """Which criteria a sink meets."""
    layer, mass = primaries[sink.text_id]
    first, last = middle_layers(n_layers)
    return {
        "after_primary": sink.l_start > layer,
        "in_middle_layers": first <= sink.l_start <= last,
        "weaker_than_primary": sink.mass_max < mass,
        "found_by_paper": (sink.text_id, sink.pos) in found,
    }


def _answer(n_sinks: int, n_after: int, n_all: int) -> str:
    if not n_sinks:
        return "no sinks"
    if 2 * n_all > n_sinks:
        return "yes"
    return "partly" if n_all or 2 * n_after > n_sinks else "no"


def _by_layer(layers: Iterable[int], n_layers: int) -> tuple[int, ...]:
    counts = Counter(layers)
    return tuple(counts[layer] for layer in range(n_layers))


def rate_of(number: int, n_tokens: int) -> float:
    """Sinks per 10,000 tokens; NaN where the texts are too short (`LEAST_EXPECTED`)."""
    enough = HIGHEST * n_tokens / PER >= LEAST_EXPECTED
    return PER * number / n_tokens if enough else math.nan
