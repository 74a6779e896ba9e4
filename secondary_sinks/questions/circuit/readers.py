"""Readers: which heads attend to a secondary sink, do they read the primary too, and why?"""

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pandas as pd
import torch

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.circuit import reading
from secondary_sinks.questions.circuit.drawings import reader_figures
from secondary_sinks.questions.circuit.edges import Edge, by_level, edges_frame, of_sink
from secondary_sinks.questions.circuit.read_verdicts import SINK_COLUMNS, TESTS, reader_verdicts
from secondary_sinks.questions.circuit.reading import ByBlock, Read
from secondary_sinks.questions.matched_pairs import (
    MatchedPair,
    count_censored,
    count_left_out,
    match_pairs,
    with_progress,
)
from secondary_sinks.questions.question import CellCounts, Question, Sample
from secondary_sinks.questions.run_claims import levels_of
from secondary_sinks.statistics import claims_together, rank_correlation
from secondary_sinks.types import SHARE_UNIT, SinkTable, Trace

TOP = 8
ROUNDING = 1e-6
"""Attention that a sum over many queries may gain or lose in float32."""
UNITS = {"attention": SHARE_UNIT, "query_cosine": "cosine"}
"""Units of the measures; all others are scores."""
GROUP = ["kind", "level", "layer", "head"]
HEADS = (
    *(*GROUP, "attention", "attention_primary", "attention_control"),
    *("reads", "reads_primary", "reads_both", "reads_control", "n_sinks", "n_texts"),
)


@shows_progress
def reader_heads(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    top: int = TOP,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """Which heads read each sink, and do they read the primary too? One pass per text, no edit.

    The attention of every head to each sink is measured in the blocks that read the sink. A head
    *reads* a token if it passes the test of detection for attention on its own: the mean attention
    of later queries is at least twice the even share and twice the median of the token's
    neighbours, and at least eight later queries see it (`Thresholds`). `cells` are edges (`Edge`),
    for the `top` heads with the most attention among those that read a sink:

    * `attention`: mean attention of later queries beyond their even share;
    * `score` and its parts `score_bias`, `score_primary`, `score_rest` and `score_position`, which
      add up to it, and `score_length`, what the key's length adds (`circuit.scores`);
    * `query_cosine`: cosine between the queries that read the sink and those that read the
      primary: means of the same queries, each weighted with a (1 - a) at the attention a that it
      pays, which are the directions in which either key would draw more attention.

    `control` is the same at the sink's control token, in the same head. Each sink has one more
    edge, `from_primary_readers`: the share of the attention beyond the even share that comes
    from heads which read the primary in the same block; `control` is the share that as many random
    heads of the same block would have on average. Heads that pay no more than the even share are
    left out. Only blocks count in which some heads read the primary and others do not; without such
    a block both are NaN.

    `effects` are their means by level; those of a head are means over the sinks that it reads most.
    Tables: "heads", means over all sinks by level, block and head, where `reads` are shares of
    sinks; "sinks", one row per sink; "queries", for the 12 sinks with most attention, what each of
    the next 1,000 queries pays the sink in each block that reads it: mean over heads, and by the
    head that reads it most. Verdicts per level (`reader_verdicts`): most attention to its sinks
    comes from heads that also read the primary, and more of it than from as many random heads; and
    heads that attend more to the primary attend more to the sinks. Intervals are corrected for
    `n_claims`, by default those of this answer. Raises `EditError` for a `top` below 1.
    """
    check_whole(EditError, n_claims=n_claims)
    if top < 1:
        raise EditError(f"top is {top}", "expected at least 1 head per sink")
    texts = match_pairs(traces, sinks)
    edges: list[Edge] = []
    rows: list[dict[str, Any]] = []
    sums: list[pd.DataFrame] = []
    queries: list[pd.DataFrame] = []
    kept = reading.strongest_pairs(texts)
    for text in with_progress(texts, progress):
        if not text.cases:
            continue
        found = reading.measure_text(model, text, sinks.thresholds)
        for case in text.cases:
            row = _row(case, found[case.sink.pos])
            edges += [*_top_edges(case, found[case.sink.pos], top), _from_primary(case, row)]
            rows.append(row)
            queries += reading.by_query(case, found[case.sink.pos]) if case in kept else []
        sums.append(_sums([(case, found[case.sink.pos]) for case in text.cases]))
    table, cells = pd.DataFrame(rows, columns=list(SINK_COLUMNS)), edges_frame(edges)
    left_out = count_left_out(texts)
    return Answer(
        question="reader_heads",
        cells=cells,
        effects=by_level(cells),
        verdicts=reader_verdicts(table, left_out, claims_together(n_claims, reader_claims(sinks))),
        tables={"heads": _heads(sums), "sinks": table, "queries": reading.joined_queries(queries)},
        left_out=left_out,
        n_censored=count_censored(texts),
    )


def reader_claims(sinks: SinkTable) -> int:
    """Number of claims: four intervals for each level."""
    return TESTS * levels_of(sinks)


def _top_edges(case: MatchedPair, by_block: ByBlock, top: int) -> Iterator[Edge]:
    """The edges of the heads that read the sink most."""
    places = [
        (float(read.beyond["sink"][head]), block, head)
        for block, read in by_block.items()
        for head in read.reads["sink"].nonzero()[:, 0].tolist()
    ]
    for _, block, head in sorted(places, reverse=True)[:top]:
        read = by_block[block]
        for name in reading.MEASURES:
            yield Edge(
                **of_sink(case.sink),
                part="reader",
                measure=name,
                site="pattern" if name == "attention" else "attn_scores",
                layer=float(block),
                head=float(head),
                effect=float(read.sink[name][head]),
                control=float(read.control[name][head]),
                unit=UNITS.get(name, "attention score"),
            )


def _from_primary(case: MatchedPair, row: dict[str, Any]) -> Edge:
    return Edge(
        **of_sink(case.sink),
        part="reader",
        measure="from_primary_readers",
        site="pattern",
        layer=math.nan,
        effect=row["share"],
        control=row["chance"],
        unit=SHARE_UNIT,
    )


def _row(case: MatchedPair, by_block: ByBlock) -> dict[str, Any]:
    """How many heads of all blocks read a sink, and whose attention it gets."""
    whether = {name: _joined(by_block, name) for name in reading.TOKENS}
    both = whether["sink"] & whether["primary"]
    share, chance = _share(by_block, "sink")
    return {
        **of_sink(case.sink),
        "control_pos": case.control,
        "n_heads": len(both),
        **{f"n_{name}": int(one.sum()) for name, one in whether.items()},
        "n_both": int(both.sum()),
        "share": share,
        "chance": chance,
        "share_of_all": _share(by_block, "sink", every=True)[0],
        "control_share": _share(by_block, "control")[0],
        "rank": _rank(by_block, "sink"),
        "control_rank": _rank(by_block, "control"),
    }


def _joined(by_block: ByBlock, token: str) -> torch.Tensor:
    """Whether each head of each block reads a token."""
    none = [torch.zeros(0, dtype=torch.bool)]
    return torch.cat(none + [read.reads[token] for read in by_block.values()])


def _share(by_block: ByBlock, token: str, *, every: bool = False) -> tuple[float, float]:
    """Share of the attention beyond the even share that heads which read the primary pay.

    And the share that as many random heads of the same blocks pay on average: the share of heads
    that read the primary, weighted with the attention of each block. Both in blocks where some
    heads read the primary and others do not, or in `every` block. NaN if no head there pays more
    than its even share, by more than rounding.
    """
    own = random = total = 0.0
    for read in by_block.values():
        of_primary = read.reads["primary"]
        if every or (bool(of_primary.any()) and not bool(of_primary.all())):
            beyond = read.beyond[token].double()
            paid = beyond.where(beyond > ROUNDING, 0.0)
            own += float(paid[of_primary].sum())
            random += float(paid.sum() * of_primary.double().mean())
            total += float(paid.sum())
    return (own / total, random / total) if total > 0 else (math.nan, math.nan)


def _rank(by_block: ByBlock, token: str) -> float:
    """Rank correlation over heads of attention to a token and to the primary, mean over blocks.

    Numbers that differ by rounding are ties. NaN if all heads attend alike to the primary.
    """
    found = []
    for read in by_block.values():
        primary, own = (
            (read.beyond[name].double() / ROUNDING).round() for name in ("primary", token)
        )
        if primary.min() < primary.max():
            found.append(rank_correlation(primary, own))
    return sum(found) / len(found) if found else math.nan


def _sums(cases: Sequence[tuple[MatchedPair, ByBlock]]) -> pd.DataFrame:
    """Sums over the sinks of a text, by level, block and head."""
    frames = [
        pd.DataFrame(_by_head(read)).assign(
            kind=case.sink.kind, level=case.sink.level, layer=block, n_sinks=1, n_texts=0
        )
        for case, by_block in cases
        for block, read in by_block.items()
    ]
    if not frames:
        return pd.DataFrame(columns=list(HEADS))
    summed = pd.concat(frames).groupby(GROUP, dropna=False, as_index=False).sum()
    return summed.assign(n_texts=1)


def _by_head(read: Read) -> dict[str, Any]:
    whether = {name: one.double() for name, one in read.reads.items()}
    return {
        "head": range(len(whether["sink"])),
        "attention": read.beyond["sink"].double(),
        "attention_primary": read.beyond["primary"].double(),
        "attention_control": read.beyond["control"].double(),
        "reads": whether["sink"],
        "reads_primary": whether["primary"],
        "reads_both": whether["sink"] * whether["primary"],
        "reads_control": whether["control"],
    }


def _heads(sums: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Means over sinks, by level, block and head; the heads with most attention first."""
    if not any(map(len, sums)):
        return pd.DataFrame(columns=list(HEADS))
    joined = pd.concat([one for one in sums if len(one)])
    whole = joined.groupby(GROUP, dropna=False, as_index=False).sum()
    means = [name for name in HEADS if name not in (*GROUP, "n_sinks", "n_texts")]
    whole[means] = whole[means].div(whole["n_sinks"], axis=0)
    by, up = ["kind", "level", "attention"], [False, True, False]
    return whole[list(HEADS)].sort_values(by, ascending=up, ignore_index=True)


def cells_of(sample: Sample) -> CellCounts:
    """Cost: one further pass over each text with a sink that can be tested."""
    return CellCounts(recomputed=[int(bool(text.cases)) for text in sample.texts])


READER_HEADS = Question(
    name="reader_heads",
    title="Heads that read the sinks",
    asks="Which heads read secondary sinks, do they read the primary too, and for what?",
    ask=reader_heads,
    n_claims=reader_claims,
    cost=cells_of,
    figures=reader_figures,
    further_tables=("heads", "sinks", "queries"),
    recomputes=True,
    circuit=True,
    needs_forming=False,
)
