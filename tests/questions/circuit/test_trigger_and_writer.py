"""Rows of the questions of a circuit: their tables, figures and numbers of claims."""

import pandas as pd
import pytest

from secondary_sinks.plots import draw
from secondary_sinks.questions import Shown
from secondary_sinks.questions.circuit.trigger import TRIGGER
from secondary_sinks.questions.circuit.writer import WRITER
from secondary_sinks.questions.matched_pairs import match_pairs
from secondary_sinks.questions.question import Sample
from secondary_sinks.testing.planted import Plant
from secondary_sinks.types import SinkTable
from tests.questions.gardens import Garden


@pytest.fixture(scope="module")
def garden():
    plants = [Plant(pos=20, forming=(5,), trigger=(3,), source=7), Plant(pos=30, forming=(2,))]
    return Garden(*plants, twins=2, n_texts=2)


@pytest.mark.parametrize("question", [TRIGGER, WRITER], ids=lambda one: one.name)
def test_an_answer_has_the_tables_and_figures_of_its_row(garden, question):
    answer = question.ask(*garden.asked, n_claims=9)
    assert answer.question == question.name
    assert {"cells", "effects", *answer.tables} == set(question.tables)
    assert {verdict.n_claims for verdict in answer.verdicts} == {9}
    drawings = question.figures(answer, Shown(sinks=garden.sinks.to_frame(), n_layers=8))
    for drawing in drawings:
        figure, table = draw(drawing.plot, drawing.frame, **drawing.options)
        assert len(figure.data) > 1
        assert isinstance(drawing.table if drawing.table is not None else table, pd.DataFrame)


@pytest.mark.parametrize("question", [TRIGGER, WRITER], ids=lambda one: one.name)
def test_claims_and_cells_are_counted_before_it_is_asked(garden, question):
    cfg, texts = garden.model.cfg, match_pairs(*garden.asked[1:])
    sample = Sample(texts=texts, sinks=garden.sinks, n_layers=cfg.n_layers, d_mlp=cfg.d_mlp)
    assert question.cost(sample).replayed > 0
    assert question.n_claims(SinkTable(sinks=())) >= 1
    twice = {"trigger": 2, "writer": 1}  # verdicts that name a layer or head
    n_verdicts = len(question.ask(*garden.asked).verdicts)
    assert question.n_claims(garden.sinks) == n_verdicts + twice[question.name]
    assert question.asks.endswith("?")
