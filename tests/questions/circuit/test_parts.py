"""Readers, function and eviction are questions like the others: tables, figures, prices, claims."""

import pandas as pd
import pytest

from secondary_sinks.plots import draw
from secondary_sinks.questions import EVICTION, FUNCTION, READER_HEADS, Sample, Shown, match_pairs
from secondary_sinks.types import SHARE_UNIT, SinkTable
from tests.questions.gardens import Garden, three

PARTS = (READER_HEADS, FUNCTION, EVICTION)
BY_NAME = pytest.mark.parametrize("part", PARTS, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def garden():
    """Texts longer than the window of the cache."""
    return Garden(*three(forming=(3,))[:1], n_texts=2, n_pos=128)


@BY_NAME
def test_an_answer_has_the_tables_figures_and_claims_of_its_row(garden, part):
    answer = part.ask(*garden.asked, n_claims=None)
    assert answer.question == part.name
    assert {"cells", "effects", *answer.tables} == set(part.tables)
    assert len(answer.cells)
    assert {verdict.n_claims for verdict in answer.verdicts} == {part.n_claims(garden.sinks)}
    assert {verdict.unit for verdict in answer.verdicts} <= {SHARE_UNIT, "rank correlation"}
    assert part.asks.endswith("?")
    assert part.n_claims(SinkTable(sinks=())) >= 1
    told = part.ask(*garden.asked, n_claims=99).verdicts
    assert {verdict.n_claims for verdict in told} == {99}
    drawings = part.figures(answer, Shown(sinks=garden.sinks.to_frame(), n_layers=8))
    assert drawings
    for drawing in drawings:
        figure, table = draw(drawing.plot, drawing.frame, **drawing.options)
        assert len(figure.data) > 0
        assert isinstance(table, pd.DataFrame)


@BY_NAME
def test_progress_counts_texts(garden, part):
    seen = []
    part.ask(*garden.asked, progress=lambda done, texts: seen.append((done, texts)))
    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_prices_are_the_runs_of_each_text(garden):
    texts = match_pairs(garden.traces, garden.sinks)
    sample = Sample(texts=texts, sinks=garden.sinks, n_layers=8, d_mlp=20)
    prices = [part.cost(sample) for part in PARTS]
    assert [price.replayed for price in prices] == [0, 0, 0]
    caches = len(EVICTION.ask(*garden.asked).cells) // 2
    assert [list(price.recomputed) for price in prices] == [[1, 1], [11, 11], [caches + 1] * 2]
    nothing = Sample(texts=[], sinks=garden.sinks, n_layers=8, d_mlp=20)
    assert all(sum(part.cost(nothing).recomputed) == 0 for part in PARTS)
