"""All parts of a circuit in one call, in a run folder, on the page and on the command line."""

from dataclasses import replace

import pandas as pd
import pytest

from secondary_sinks import circuit, detect, observe, sweeps
from secondary_sinks.errors import QuestionError
from secondary_sinks.questions import n_claims_of
from secondary_sinks.questions.circuit import (
    CIRCUIT,
    WITH_EDGES,
    circuits_of_levels,
    edges_frame,
)
from secondary_sinks.report import write_report
from secondary_sinks.runs import RunFolder, parse_questions
from secondary_sinks.sweeps import ModelSpec, SweepConfig
from secondary_sinks.testing import Plant, plant
from secondary_sinks.texts import TokenizedText
from secondary_sinks.types import SinkTable
from tests.report.pages import Html

READ = Plant(pos=20, forming=(5,), trigger=(3,), source=7)
PARTS = ["trigger", "writer", "reader_heads"]
CONFIG = SweepConfig(models=(ModelSpec(name="planted"),), layers=(5,))


@pytest.fixture(scope="module")
def planted():
    return plant([Plant(pos=0, forming=(1,), strength=400.0), READ], twins=2)


@pytest.fixture(scope="module")
def found(planted):
    trace = observe(planted.model, planted.tokens, text_id="one")
    return circuit(planted.model, trace, detect(trace), parts=PARTS)


@pytest.fixture(scope="module")
def folder(planted, tmp_path_factory):
    """A run with two parts of the circuit, of which one was asked after the other."""
    out = tmp_path_factory.mktemp("circuit") / "out"
    text = TokenizedText(text_id="one", tokens=planted.tokens, feed="raw", fed="as planted")
    for asked in (("trigger",), ("trigger", "reader_heads")):
        sweeps.run(
            CONFIG,
            out,
            asked=asked,
            models={"planted": planted.model},
            texts=[text],
            command=lambda asked: " ".join(["secondary-sinks run", *asked]),
        )
    return RunFolder(out)


def test_the_planted_circuit_is_found_whole(found):
    edges = found.of_sink("one", 20).edges
    cut = edges[(edges["site"] == "attn_scores") & (edges["measure"] == "ended_in_set")]
    assert cut[["layer", "head", "source_pos"]].to_numpy().tolist() == [[3.0, 3.0, 7.0]]
    writers = edges[edges["measure"] == "writes"]
    assert writers["layer"].tolist() == [5.0]
    readers = edges[(edges["part"] == "reader") & (edges["measure"] == "attention")]
    assert (readers["layer"] > 5).all()
    assert list(found.edges.columns) == list(edges_frame([]).columns)


def test_intervals_are_corrected_for_all_parts_together(found):
    n_claims = n_claims_of(PARTS, found.sinks)
    assert {verdict.n_claims for verdict in found.verdicts} == {n_claims}
    assert repr(found).startswith("Circuit(trigger, writer, reader_heads: ")


def test_a_sink_and_a_level_are_drawn(found):
    figure = found.of_sink("one", 20).plot()
    assert {one.name for one in figure.data} >= {"trigger", "writer", "reader"}
    (level,) = circuits_of_levels(found.edges, found.n_layers)
    assert level.name == "secondary sinks"
    assert len(level.plot().data) > 2


def test_what_cannot_be_asked_is_named(found, planted):
    trace = observe(planted.model, planted.tokens, text_id="one")
    for parts in (["triggers"], []):
        with pytest.raises(QuestionError, match="expected some of trigger, writer"):
            circuit(planted.model, trace, found.sinks, parts=parts)
    with pytest.raises(QuestionError, match="'trigger' twice"):
        circuit(planted.model, trace, found.sinks, parts=["trigger", "trigger"])
    with pytest.raises(QuestionError, match="no edge of a sink at position 3 of text 'one'"):
        found.of_sink("one", 3)
    nothing = replace(found, sinks=SinkTable(sinks=()), answers={})
    assert nothing.edges.empty
    assert circuits_of_levels(nothing.edges, nothing.n_layers) == []


def test_the_edges_of_all_parts_are_one_table_of_the_run(folder, found):
    table = folder.table("circuit")
    parts = [folder.table(f"{name}.cells") for name in ("trigger", "reader_heads")]
    pd.testing.assert_frame_equal(table, pd.concat(parts, ignore_index=True))
    assert folder.record()["tables"]["circuit"]
    alone = found.answers["trigger"].cells
    names = ["measure", "site", "layer", "head", "source_pos", "effect", "control"]
    pd.testing.assert_frame_equal(table[table["part"] == "trigger"][names], alone[names])


def test_the_page_has_a_graph_before_the_parts(folder):
    html = Html(write_report(folder).read_text(encoding="utf-8"))
    ids = [attrs.get("id") for _, attrs in html.elements]
    assert ids.index("s-circuit") < ids.index("s-trigger") < ids.index("s-reader_heads")
    assert "circuit-0" in ids
    assert "Circuit of the strongest sink" in html.words


def test_one_word_asks_for_all_parts():
    assert parse_questions("circuit") == tuple(part.name for part in CIRCUIT)
    assert parse_questions("harm,circuit")[0] == "harm"
    assert parse_questions("circuit,trigger") == parse_questions("circuit")
    assert {*parse_questions("circuit")} - {*WITH_EDGES} == {"eviction"}
