"""Trigger: what must a token have read to become a sink, where its twins do not?

The attention outputs of a sink are exchanged with those of its token twins, up to the creation
layer: all of them, layer by layer, head by head. Then single edges of attention are cut. What is
both needed (the sink ends with a twin's) and enough (a twin becomes a sink with the sink's) is the
trigger. The writer, the MLP that this makes write, is asked for by `writer`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import pandas as pd

from secondary_sinks.errors import EditError
from secondary_sinks.layerwise.protocol import HookedModel
from secondary_sinks.numbers import check_whole
from secondary_sinks.observation import CachedPass
from secondary_sinks.progress import Progress, shows_progress
from secondary_sinks.questions.answer import Answer
from secondary_sinks.questions.circuit.edges import by_level, edges_frame
from secondary_sinks.questions.circuit.search import run_search, side_by_side
from secondary_sinks.questions.circuit.trigger_rows import (
    Trigger,
    edges_of,
    trigger_row,
    untried_row,
)
from secondary_sinks.questions.circuit.trigger_search import (
    DRAWS,
    Found,
    enter_alike,
    largest_reads,
    search,
)
from secondary_sinks.questions.circuit.trigger_verdicts import BY_LEVEL, sizes, trigger_verdicts
from secondary_sinks.questions.figures import in_long_form
from secondary_sinks.questions.matched_pairs import with_progress
from secondary_sinks.questions.question import (
    CellCounts,
    Cost,
    Drawing,
    Question,
    Shown,
    one_drawing,
)
from secondary_sinks.questions.role_tests import SinkWithTwins, sinks_with_twins
from secondary_sinks.questions.run_claims import levels_of
from secondary_sinks.questions.writers import levels_in
from secondary_sinks.types import SinkTable, Trace, as_traces
from secondary_sinks.types.frames import tidy

PASSES = 4
"""The price of the passes over a text whose sinks have a trigger, in passes over all layers."""
VALUES = ("effect", "low", "high")


@shows_progress
def trigger(
    model: HookedModel,
    traces: Trace | Iterable[Trace],
    sinks: SinkTable,
    *,
    progress: Progress | None = None,
    n_claims: int | None = None,
) -> Answer:
    """What must a token have read to become a sink? From layers down to heads and source tokens.

    Attention outputs of each secondary and primary-like sink are exchanged with those of its token
    twins; then single edges of attention are cut. `cells` has one row per edge (`Edge`), `effects`
    their means by level. Table "triggers" has one row per sink (`Trigger`), table "sizes" the sizes
    of the smallest sets found. A set is at most `search.MOST` members large; per head the
    `trigger_search.SOURCES` source tokens with the largest attention are tried. Nothing above the
    creation layer is edited, since it could not end the sink. Sinks whose token has no twin get no
    edges, and are counted. `progress` is called with (texts done, texts). Verdicts are corrected
    for `n_claims` (`n_claims_of`); by default those of this answer (`trigger_claims`).
    """
    check_whole(EditError, n_claims=n_claims)
    texts = as_traces(traces)
    asked, left_out = sinks_with_twins(texts, sinks)
    found: list[Found] = []
    for text in with_progress(texts, progress):
        mine = [one for one in asked if one.trace is text and one.twins]
        found += _of_sinks(model, text, mine, sinks)
    heads = model.cfg.n_heads
    rows = [trigger_row(one, heads) for one in found]
    rows += [untried_row(one, heads) for one in asked if not one.twins]
    table = tidy([asdict(row) for row in rows], Trigger)
    cells = edges_frame(edge for one in found for edge in edges_of(one))
    return Answer(
        question="trigger",
        cells=cells,
        effects=by_level(cells),
        verdicts=trigger_verdicts(table, n_claims),
        tables={"triggers": table, "sizes": sizes(table)},
        left_out=left_out,
        n_censored=sum(one.sink.censored != "none" for one in asked),
    )


def _of_sinks(
    model: HookedModel, text: Trace, asked: Sequence[SinkWithTwins], sinks: SinkTable
) -> list[Found]:
    """What triggers the sinks of one text, with one replay for all of them at each step."""
    if not asked:
        return []
    clean = CachedPass.if_small(model, text.tokens, trace=text)
    kept = {text.text_id: clean} if clean else {}
    read = largest_reads(model, text, asked, clean)
    searches = [
        search(one, row, model.cfg.n_heads, read, alike=enter_alike(model, one))
        for row, one in enumerate(asked)
    ]
    return run_search(model, side_by_side(searches), sinks, kept)


def trigger_claims(sinks: SinkTable) -> int:
    """Number of claims of `trigger`: six per level (`BY_LEVEL`), from its four verdicts."""
    return BY_LEVEL * levels_of(sinks)


def trigger_cost(traces: Sequence[Trace], sinks: SinkTable) -> Cost:
    """Number of cells of the tests of layers; those of heads and source tokens depend on them.

    Heads cost `1 + 2 n_twins` cells each, at the layers that have a part in it; each head found
    costs up to `SOURCES` cells more. `tokens` are those of the passes over each text with sinks, of
    which there are about `PASSES`.
    """
    asked, _ = sinks_with_twins(traces, sinks)
    sizes = [(one.sink.l_start + 2, len(one.twins)) for one in asked if one.twins]
    replayed = sum(n_sets * (1 + 2 * twins) + DRAWS * twins for n_sets, twins in sizes)
    texts = {one.sink.text_id: len(one.trace.tokens) for one in asked if one.twins}
    tokens = PASSES * sum(texts.values())
    return Cost(question="trigger", replayed=replayed, recomputed=0, tokens=tokens)


def by_layer(answer: Answer, shown: Shown) -> list[Drawing]:
    """Share of sinks that end, and of twins that become sinks, by layer of the exchange."""
    effects = answer.effects
    layers = effects[(effects["site"] == "attn_out") & effects["layer"].notna()]
    parts = [
        in_long_form(
            part[part["measure"] == name].assign(group=level), name, "group", "layer", VALUES
        )
        for level, part in levels_in(layers)
        for name in ("ended", "created")
    ]
    titles = {
        "ended": ("share of<br>sinks that end", "linear"),
        "created": ("share of twins<br>that become sinks", "linear"),
    }
    options = {"panels": titles, "x_title": "layer of the attention output", "height": 180}
    caption = (
        "The attention output of one layer, exchanged between a sink and its token twins. Above: "
        "the twin's in the place of the sink's. Below: the sink's in the place of the twin's. "
        "Means over texts by level, with t intervals as a description."
    )
    frame = pd.concat(parts, ignore_index=True)
    return one_drawing("lines", "trigger", "What attention read", caption, frame, options=options)


TRIGGER = Question(
    name="trigger",
    title="Trigger",
    asks="What must a token have read to become a sink, where its twins do not?",
    ask=trigger,
    n_claims=trigger_claims,
    cost=lambda sample: CellCounts(
        replayed=trigger_cost([text.trace for text in sample.texts], sample.sinks).replayed
    ),
    figures=by_layer,
    further_tables=("triggers", "sizes"),
    circuit=True,
    needs_forming=False,
)
