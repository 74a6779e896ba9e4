"""One row per causal question, and what reads the table."""

import pandas as pd
import pytest

import secondary_sinks
from secondary_sinks.plots import draw
from secondary_sinks.questions import QUESTIONS
from secondary_sinks.report.claims import TITLES
from secondary_sinks.runs import parse_questions
from secondary_sinks.runs.folder import OWN
from secondary_sinks.testing.planted import Plant
from secondary_sinks.types import SHARE_UNIT, SinkTable
from tests.questions.gardens import Garden

BY_NAME = pytest.mark.parametrize("question", QUESTIONS, ids=lambda one: one.name)


@pytest.fixture(scope="module")
def garden():
    return Garden(Plant(pos=12, forming=(3,)), n_texts=2)


@BY_NAME
def test_an_answer_has_the_tables_and_figures_of_its_row(garden, question):
    answer = question.ask(*garden.asked)
    assert answer.question == question.name
    assert {"cells", "effects", *answer.tables} == set(question.tables)
    for verdict in answer.verdicts:
        assert verdict.unit in {SHARE_UNIT, "rank correlation", "attention"}
        if verdict.layer is not None:
            assert verdict.claim == verdict.general.replace("one layer", f"layer {verdict.layer}")
    shown = secondary_sinks.questions.Shown(sinks=garden.sinks.to_frame(), n_layers=8)
    drawings = question.figures(answer, shown)
    assert drawings or answer.effects.empty
    for drawing in drawings:
        figure, table = draw(drawing.plot, drawing.frame, **drawing.options)
        assert len(figure.data) > 0
        assert isinstance(drawing.table if drawing.table is not None else table, pd.DataFrame)


@BY_NAME
def test_what_reads_the_table_knows_each_question(question):
    assert getattr(secondary_sinks, question.name) is question.ask
    assert question.name in parse_questions("all")
    assert {f"{question.name}.{table}.parquet" for table in question.tables} <= OWN
    assert TITLES[question.name] == question.title
    assert question.asks.endswith("?")
    assert question.n_claims(SinkTable(sinks=())) >= 1
