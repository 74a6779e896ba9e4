"""Eviction: what does it cost to drop sinks from the cache, or to keep little else?"""

import heapq
import random
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd

from secondary_sinks.causal.controls import ever_sinks
from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.circuit.cuts import Cut, CutLosses, run_cuts
from secondary_sinks.questions.circuit.drawings import eviction_figures
from secondary_sinks.questions.circuit.eviction_verdicts import (
    N_CLAIMS,
    effects_of,
    eviction_verdicts,
)
from secondary_sinks.questions.matched_pairs import (
    TextPairs,
    count_censored,
    count_left_out,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.statistics import claims_together
from secondary_sinks.types import SinkTable, Trace

WINDOW = 64
DRAWS = 3
SECONDARY = ("secondary",)
TOO_SHORT = "in texts too short for the window, or with too few ordinary tokens"
COLUMNS = (
    *("text_id", "cache", "keys", "draw", "n_sinks", "n_keys", "n_counted", "loss_clean"),
    *("loss", "rise", "kl", "n_secondary"),
)
BY_POSITION = ("text_id", "cache", "keys", "draw", "nearest", "farthest", "rise", "n")
BINS = ((0, 8), (8, 64), (64, 512), (512, 1 << 62))
"""Distances from the first position that counts."""


@shows_progress
def eviction(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    window: int = WINDOW,
    draws: int = DRAWS,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """What does it cost to drop secondary sinks from the KV cache, or to keep little else?

    *Dropped*, at all layers: queries more than `window` positions after a key no longer see it. The
    keys are

    * the secondary sinks of the text; its primary; both;
    * as many random keys (`draws` times), without and with the primary, or as many heavy hitters
      (the keys with most attention over all layers and queries): ordinary tokens of the first
      quarter of the text, or of the part up to the last secondary sink if that is longer;
    * as many tokens directly before each query ("recent").

    *Kept*: each query sees itself, the last `window` keys before it and, of the earlier ones, only
    the primary; the primary and the secondary sinks; or the primary and as many heavy hitters,
    taken at each query from all earlier keys, sinks too. A key that is dropped stays dropped.
    Attention is that of the whole text, later queries included.

    `cells` has a row per text and cache; `n_secondary` is the number of secondary sinks that its
    last query still has. Losses are cross-entropies in nats, means over the positions at which
    every dropped key is gone; texts without such a position are left out.
    `effects` are medians over texts of the rise as a share of the clean loss, with intervals that
    are not corrected for several rows. Table "positions": the rise by distance from the first
    position that counts.

    Verdicts, on medians over texts, with a threshold of one hundredth of the clean loss: dropping
    the secondary sinks costs more than dropping random keys; so it does with the primary dropped
    too, which may stand in for them; and keeping them is better than keeping heavy hitters. Texts
    in which these are the same keys are left out of the last verdict. Intervals are corrected for
    `n_claims`, by default those of this answer. Raises `EditError` for a window or a number of
    draws below 1.
    """
    check_whole(EditError, window=window, draws=draws, n_claims=n_claims)
    texts = match_pairs(traces, sinks, SECONDARY)
    rows: list[dict[str, Any]] = []
    positions: list[dict[str, Any]] = []
    n_short = 0
    for text in with_progress(texts, progress):
        caches = caches_of(text, sinks, window, draws)
        n_short += len(text.cases) if not caches else 0
        if caches:
            result = run_cuts(model, text.trace, [cut for *_, cut in caches])
            first = _first_counted(text, sinks, window)
            rows += _rows(text, caches, result, first, {*_secondary(text, sinks)})
            positions += _by_position(text, caches, result, first)
    losses = pd.DataFrame(rows, columns=list(COLUMNS))
    left_out = count_left_out(texts) | {TOO_SHORT: n_short}
    return Answer(
        question="eviction",
        cells=losses,
        effects=effects_of(losses),
        verdicts=eviction_verdicts(losses, left_out, claims_together(n_claims, N_CLAIMS)),
        tables={"positions": pd.DataFrame(positions, columns=list(BY_POSITION))},
        left_out=left_out,
        n_censored=count_censored(texts),
    )


Cache = tuple[str, str, int, Cut]
"""(dropped or kept, which keys, number of the draw, cut)."""


def caches_of(text: TextPairs, sinks: SinkTable, window: int, draws: int) -> list[Cache]:
    """What is dropped from or kept in the cache of a text; empty if that is not possible.

    All secondary sinks of the text are dropped, if one of them is tested: copies of sinks in an
    earlier text too.
    """
    trace, own = text.trace, _secondary(text, sinks)
    last = _first_counted(text, sinks, window) - window - 1
    taken = ever_sinks(trace, sinks)
    able = [pos for pos in range(1, last + 1) if pos not in taken]
    fresh = any(case.sink.kind in SECONDARY for case in text.cases)
    if not fresh or last + window + 2 >= len(trace) or len(able) < len(own):
        return []
    received = _received(trace)
    heaviest = sorted(able, key=lambda pos: (-received[pos], pos))[: len(own)]
    primary, heavy = (trace.primary,), tuple(sorted(heaviest))
    dropped = {"secondary": own, "primary": primary, "primary and secondary": own + primary}
    dropped["heavy hitters"] = heavy
    kept = {"primary": primary, "primary and secondary": own + primary}
    hitters = _hitters(trace, len(own), window)
    every, layers = range(len(trace)), tuple(range(len(trace.norm)))

    def without(keys: Iterable[int], since: int = window + 1, **more: Any) -> Cut:
        return Cut(keys=tuple(sorted(keys)), layers=layers, since=since, **more)

    seeds = (random.Random(f"{seed} {trace.text_id}") for seed in range(draws))
    drawn = [chance.sample(able, len(own)) for chance in seeds]
    return [
        *(("dropped", name, 0, without(keys)) for name, keys in dropped.items()),
        ("dropped", "recent", 0, without(every, since=1, until=len(own) + 1)),
        *(("dropped", "random", seed, without(keys)) for seed, keys in enumerate(drawn)),
        *(
            ("dropped", "primary and random", seed, without([*primary, *keys]))
            for seed, keys in enumerate(drawn)
        ),
        *(("kept", name, 0, without(set(every) - set(keys))) for name, keys in kept.items()),
        ("kept", "primary and heavy hitters", 0, without(set(every) - set(primary), later=hitters)),
    ]


def _secondary(text: TextPairs, sinks: SinkTable) -> tuple[int, ...]:
    own = sinks.of_text(text.trace.text_id).of_kind(*SECONDARY)
    return tuple(sorted(sink.pos for sink in own.sinks))


def _first_counted(text: TextPairs, sinks: SinkTable, window: int) -> int:
    """The first position at which every dropped key is gone.

    Keys are dropped from the first quarter of a text, or from further on if a sink stands there, so
    that there are enough ordinary ones.
    """
    return max(*_secondary(text, sinks), len(text.trace) // 4, 0) + window + 1


def _received(trace: Trace) -> list[float]:
    """Attention to each token, summed over layers and queries."""
    received = (trace.mass.double() * trace.queries).nan_to_num().sum(0)
    return [float(one) for one in received]


def _hitters(trace: Trace, number: int, window: int) -> tuple[tuple[int, int], ...]:
    """Keys other than the primary that are kept as heavy hitters: (key, first query without it).

    Each query has the `number` heaviest of the keys that have left its window, or all if they are
    fewer. The query of a key that is never dropped is the length of the text.
    """
    received, until = _received(trace), dict[int, int]()
    kept: list[tuple[float, int]] = []
    for pos in range(len(trace) - window - 1):
        if pos != trace.primary:
            heapq.heappush(kept, (received[pos], -pos))
            until[pos] = len(trace)
        if len(kept) > number:
            until[-heapq.heappop(kept)[1]] = pos + window + 1
    return tuple((key, query) for key, query in until.items() if query > key + window + 1)


def _rows(
    text: TextPairs, caches: Sequence[Cache], result: CutLosses, first: int, own: set[int]
) -> Iterator[dict[str, Any]]:
    clean = float(result.clean[first:-1].double().mean())
    for number, (cache, keys, draw, cut) in enumerate(caches):
        loss = float(result.loss[number, first:-1].double().mean())
        yield {
            "text_id": text.trace.text_id,
            "cache": cache,
            "keys": keys,
            "draw": draw,
            "n_sinks": len(text.cases),
            "n_keys": _n_keys(cut, cache, len(text.trace)),
            "n_counted": len(text.trace) - 1 - first,
            "loss_clean": clean,
            "loss": loss,
            "rise": (loss - clean) / clean,
            "kl": float(result.kl[number, first:-1].double().mean()),
            "n_secondary": len(_left(cut, len(text.trace)) & own),
        }


def _n_keys(cut: Cut, cache: str, n_pos: int) -> int:
    """Number of keys that a query misses, or that it has kept from before its window."""
    if cut.until is not None:
        return cut.until - 1
    return len(cut.keys) if cache == "dropped" else len(_left(cut, n_pos))


def _left(cut: Cut, n_pos: int) -> set[int]:
    """Keys that the last query whose loss counts still has, however far behind it."""
    gone = {*cut.keys} if cut.until is None else set[int]()
    return {*range(n_pos)} - gone | {key for key, query in cut.later if query > n_pos - 2}


def _by_position(
    text: TextPairs, caches: Sequence[Cache], result: CutLosses, first: int
) -> Iterator[dict[str, Any]]:
    for number, (cache, keys, draw, _) in enumerate(caches):
        rise = (result.loss[number] - result.clean)[first:-1].double()
        for since, until in BINS:
            part = rise[since:until]
            if len(part):
                yield {
                    "text_id": text.trace.text_id,
                    "cache": cache,
                    "keys": keys,
                    "draw": draw,
                    "nearest": since,
                    "farthest": since + len(part) - 1,
                    "rise": float(part.mean()),
                    "n": len(part),
                }


def cells_of(sample: Sample) -> CellCounts:
    """Cost: one run for each cache of a text, and the clean one."""
    numbers = [len(caches_of(text, sample.sinks, WINDOW, DRAWS)) for text in sample.texts]
    return CellCounts(recomputed=[number + 1 if number else 0 for number in numbers])


EVICTION = Question(
    name="eviction",
    title="Keys dropped from the cache",
    asks="What does it cost to drop secondary sinks from the cache, or to keep little else?",
    ask=eviction,
    n_claims=lambda sinks: N_CLAIMS,
    cost=cells_of,
    figures=eviction_figures,
    further_tables=("positions",),
    recomputes=True,
    circuit=True,
    needs_forming=False,
)
